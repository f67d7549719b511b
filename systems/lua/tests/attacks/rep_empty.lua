-- ends: fuel
return (""):rep(math.maxinteger)
