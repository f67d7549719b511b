-- ends: fuel
local p = ("q"):rep(1000000)
while true do pcall(string.find, "x", p) end
