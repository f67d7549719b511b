-- ends: error C stack overflow
return assert(load("return " .. ("("):rep(10000)))
