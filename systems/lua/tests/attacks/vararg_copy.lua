-- ends: fuel
local function f(...) local t = { ... } return #t end
local function g(...) while true do f(...) end end
g(("x"):rep(50000):byte(1, -1))
