-- ends: fuel
local parts = {}
for i = 1, 20000 do parts[i] = "::l" .. i .. "::" end
local s = table.concat(parts)
while true do load(s) end
