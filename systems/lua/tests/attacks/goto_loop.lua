-- ends: fuel
::top:: goto top
