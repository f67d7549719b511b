-- ends: fuel
local s = ("x"):rep(1000000) .. "\0"
while true do pcall(string.format, "%5.1s", s); pcall(string.pack, "z", s) end
