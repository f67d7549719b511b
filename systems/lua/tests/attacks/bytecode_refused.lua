-- ends: error attempt to load a binary chunk
assert(load(string.dump(function() end), "x", "b"))
