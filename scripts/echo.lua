-- The smallest script: two rpcs that clients call, and two hooks around joining a room.
--
--   curl -d 'hi' http://127.0.0.1:7350/v1/rpc/echo      -> hi
--   curl -d ''   http://127.0.0.1:7350/v1/rpc/hello     -> {"hello":"stranger","time":1767225600000,...}

-- What comes in goes out. A string is sent as it is, a table as JSON.
kaos.register_rpc("echo", function(ctx, payload)
  return payload
end)

kaos.register_rpc("hello", function(ctx, payload)
  local name = ctx.username
  if name == nil or name == "" then name = "stranger" end
  return { hello = name, session_id = ctx.session_id, time = kaos.time_now(), id = kaos.uuid() }
end)

-- Before an op: look at the request, change it, and pass it on. Modules have lower-case names here, so "Arena" will do.
kaos.register_before("room_join", function(ctx, msg)
  if msg.module then msg.module = string.lower(msg.module) end
  return msg
end)

-- After an op: it has happened, and what is done here changes nothing of it. `msg` is the request: a room that was looked
-- for by its module has no room_id in it.
kaos.register_after("room_join", function(ctx, msg)
  local room = msg.room_id
  if room == nil or room == "" then room = "a room of " .. tostring(msg.module) end
  kaos.logger_info(tostring(ctx.username) .. " joined " .. room)
end)
