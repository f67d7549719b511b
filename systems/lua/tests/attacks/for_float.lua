-- ends: fuel
for x = 1.0, math.huge do end
