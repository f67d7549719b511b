-- ends: fuel
local t, step = {}, ((1 << 15) - 1) * ((1 << 16) - 1) * ((1 << 17) - 1)
while true do
  for i = 1, 60000 do t[i * step] = i end
  for i = 1, 60000 do t[i * step] = nil end
end
