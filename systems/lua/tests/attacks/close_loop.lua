-- ends: fuel
local spin = setmetatable({}, { __close = function() while true do end end })
while true do pcall(function() local x <close> = spin; while true do end end) end
