-- ends: fuel
local s = "a" .. ("\x80"):rep(1000000)
while true do pcall(utf8.offset, s, 2); pcall(utf8.codes(s), s, 1); pcall(utf8.len, s) end
