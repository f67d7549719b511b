-- ends: fuel
local function nest() return pcall(coroutine.wrap(nest)) end
while true do nest() end
