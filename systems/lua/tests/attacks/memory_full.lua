-- ends: fuel
local keep = {}
pcall(function() while true do keep[#keep + 1] = { #keep } end end)
keep[#keep] = nil
while true do pcall(function() local _ = { {}, {}, {} } end) end
