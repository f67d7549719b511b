-- ends: fuel
local names = {}
for i = 1, 180 do names[i] = "v" .. i end
local open = "local " .. table.concat(names, ",") .. " return function() "
local s = open:rep(60) .. ("x() "):rep(5000) .. ("end "):rep(60)
while true do load(s) end
