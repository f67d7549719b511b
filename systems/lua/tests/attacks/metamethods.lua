-- ends: fuel
local t = setmetatable({}, {})
getmetatable(t).__index = function(_, k) while true do local _ = k end end
getmetatable(t).__tostring = function() while true do end end
while true do pcall(tostring, t); pcall(function() return t.x end) end
