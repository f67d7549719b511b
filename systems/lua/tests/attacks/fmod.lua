-- ends: fuel
local x = 1e308
while true do local _ = x % 1e-308; _ = x % 1e-308; _ = x % 1e-308; _ = x % 1e-308 end
