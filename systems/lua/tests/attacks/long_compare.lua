-- ends: fuel
local a, b = ("k"):rep(1000000), ("k"):rep(1000000)
while a == b and a <= b and rawequal(a, b) do end
