-- ends: fuel
return ("a"):rep(100000):gsub("%f[" .. ("bcdefgh"):rep(5000) .. "]", "x")
