-- ends: fuel
local s = (" "):rep(1000000) .. "1"
while true do tonumber(s); tonumber(s, 10) end
