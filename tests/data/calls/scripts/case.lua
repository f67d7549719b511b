-- Calls a function of kaos.* with arguments by position, and tells what came of it.
kaos.register_rpc("case", function(_, text)
  local call = kaos.json_decode(text)
  local ok, came = pcall(kaos[call.name], table.unpack(call.args, 1, call.count))
  if ok then return { reply = came } end
  return { refused = tostring(came) }
end)

kaos.register_rpc("echo", function(_, payload) return payload end)

kaos.register_rpc("refuse", function(_, word)
  error({ code = word, message = "as it was asked for" })
end)

kaos.register_rpc("broken", function() error("a defect") end)
