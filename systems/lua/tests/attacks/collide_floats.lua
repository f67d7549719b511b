-- ends: fuel
local t = {}
while true do
  local x = 1.5
  for i = 1, 60000 do x = x + 2.220446049250313e-16; t[x] = i end
  for k in pairs(t) do t[k] = nil end
end
