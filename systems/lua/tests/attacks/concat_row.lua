-- ends: fuel
local s = ("x"):rep(1000000)
while true do local a = s .. 1; a = s .. 2; a = s .. 3; a = s .. 4; a = s .. 5 end
