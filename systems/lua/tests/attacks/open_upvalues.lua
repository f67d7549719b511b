-- ends: fuel
local names = {}
for i = 1, 180 do names[i] = "v" .. i end
local all = table.concat(names, ",")
load("local " .. all .. " local keep = function() return " .. all .. " end while true do keep = function() return " .. all .. " end end")()
