-- ends: fuel
local s = "if a then " .. ("elseif a then "):rep(20000) .. "end"
while true do load(s) end
