-- ends: fuel
local t = table.pack(("x"):rep(100000):byte(1, -1))
t.a = 1
for i = 1, math.maxinteger do t[-i] = 1; t[-i] = nil end
