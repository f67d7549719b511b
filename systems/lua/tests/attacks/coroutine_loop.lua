-- ends: fuel
local co = coroutine.wrap(function() while true do end end)
while true do pcall(co); co = coroutine.wrap(function() while true do coroutine.yield() end end) end
