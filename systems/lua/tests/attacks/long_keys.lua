-- ends: fuel
local a, t = ("k"):rep(1000000), {}
local b = ("k"):rep(1000000)
t[a] = 1
while true do local _ = t[b] end
