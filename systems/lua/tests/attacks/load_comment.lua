-- ends: fuel
local s = "--[[" .. ("x"):rep(1000000) .. "]]"
while true do load(s) end
