-- ends: fuel
while true do string.format("%.99f%.99f%.99f", 1e308, 1e308, 1e308) end
