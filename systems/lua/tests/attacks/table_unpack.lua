-- ends: fuel
local t = table.pack(("x"):rep(100000):byte(1, -1))
while true do select("#", table.unpack(t, 1, 100000)) end
