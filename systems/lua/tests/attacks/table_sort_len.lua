-- ends: fuel
local t = setmetatable({}, { __len = function() return (1 << 31) - 2 end, __index = function() return 1 end })
t = setmetatable({}, { __len = getmetatable(t).__len, __index = getmetatable(t).__index, __newindex = function() end })
table.sort(t)
