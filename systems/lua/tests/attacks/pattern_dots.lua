-- ends: fuel
return ("a"):rep(5000):find(".-.-.-.-b")
