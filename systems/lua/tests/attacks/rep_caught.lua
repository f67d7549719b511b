-- ends: fuel
while true do pcall(string.rep, "x", 4000000000) end
