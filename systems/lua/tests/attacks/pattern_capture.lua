-- ends: fuel
return ("a"):rep(20000):find("^(.-)%1b") or ("a"):rep(100000):find("(a*)%1b")
