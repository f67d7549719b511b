-- ends: fuel
return ("a"):rep(200):find(("a-"):rep(12) .. "b")
