-- The arena: up to ten players move and shoot in a square of 1000 by 1000, thirty ticks a second.
--
-- From clients
--   op 1   move: 1 byte vx, or 2 bytes vx and vy (signed, units per tick, held to 15 either way)
--   op 2   fire: 1 byte direction in 256ths of a turn, 0 to the right, 64 down; anything else: at the nearest player
--   op 3   echo: comes back to its sender in the next tick, as it is; measures the whole way through a match
--   op 9   shout: goes to everyone as it is, in the name of its sender
-- To clients
--   op 1   every tick, JSON: the players by name, {"ada":{"x":500,"y":300,"alive":true,"health":2,"score":0,...},...}
--   op 2   a shot, JSON: {"by":"ada","from":[500,300],"to":[500,500],"hit":"bob","killed":true}
--   op 4   a notice for people, text
-- Signals answer with the scores, JSON: {"ada":3,"bob":1}

local M = {}

local SIZE = 1000          -- the square's side; x to the right, y down
local SPEED = 15           -- units per tick at most: the square is crossed in a little over two seconds
local RANGE = 450          -- of a shot; further than any two seats are apart, so that nobody starts out of reach
local RADIUS = 30          -- of a player, for being hit
local HEALTH = 2           -- hits that a player takes
local SHOTS = 2            -- in the barrel
local RELOAD = 10          -- ticks until a spent shot is back
local RESPAWN = 90         -- ticks out of the game
local SEATS = 10

-- Ten places on a circle around the middle: nobody starts on top of another.
local function seat(n)
  local turn = 2 * math.pi * (n % SEATS) / SEATS
  return SIZE // 2 + math.floor(200 * math.cos(turn)), SIZE // 2 + math.floor(200 * math.sin(turn))
end

local function clamp(value, low, high)
  return math.max(low, math.min(high, value))
end

local function place(state, player)
  player.x, player.y = seat(state.seats)
  player.vx, player.vy = 0, 0
  player.alive, player.health, player.shots = true, HEALTH, SHOTS
  player.reload, player.respawn = nil, nil
  state.seats = state.seats + 1
end

local function count(players)
  local n = 0
  for _ in pairs(players) do n = n + 1 end
  return n
end

-- The label says whether there is room, for those who look for one.
local function tell_label(ctx, state)
  local open = count(state.players) < SEATS
  if open ~= state.open then
    state.open = open
    kaos.room_label(ctx.room_id, { mode = "arena", open = open })
  end
end

-- The living player nearest to (x, y), other than `me`. Of two at one distance the name decides: the order of
-- `pairs` must never decide anything that players can see.
local function nearest(players, me, x, y)
  local best, best_name, best_square
  for name, p in pairs(players) do
    if p ~= me and p.alive then
      local square = (p.x - x) ^ 2 + (p.y - y) ^ 2
      if not best or square < best_square or (square == best_square and name < best_name) then
        best, best_name, best_square = p, name, square
      end
    end
  end
  return best, best_name
end

-- The first living player on the line from `me` in the direction (dx, dy), and how far away.
local function first_on_line(players, me, dx, dy)
  local best, best_name, best_way
  for name, p in pairs(players) do
    if p ~= me and p.alive then
      local along = (p.x - me.x) * dx + (p.y - me.y) * dy
      local aside = math.abs((p.x - me.x) * dy - (p.y - me.y) * dx)
      if along >= 0 and along <= RANGE and aside <= RADIUS
        and (not best or along < best_way or (along == best_way and name < best_name)) then
        best, best_name, best_way = p, name, along
      end
    end
  end
  return best, best_name, best_way
end

local function fire(ctx, state, tick, name, data)
  local me = state.players[name]
  if not me.alive or me.shots == 0 then return end
  if me.shots == SHOTS then me.reload = tick + RELOAD end
  me.shots = me.shots - 1

  local dx, dy = 1, 0
  if #data == 1 then
    local turn = 2 * math.pi * string.byte(data) / 256
    dx, dy = math.cos(turn), math.sin(turn)
  else
    local target = nearest(state.players, me, me.x, me.y)
    local way = target and math.sqrt((target.x - me.x) ^ 2 + (target.y - me.y) ^ 2) or 0
    if way > 0 then dx, dy = (target.x - me.x) / way, (target.y - me.y) / way end
  end

  local hit, hit_name, way = first_on_line(state.players, me, dx, dy)
  local shot = {
    by = name,
    from = { me.x, me.y },
    to = { math.floor(me.x + dx * (way or RANGE)), math.floor(me.y + dy * (way or RANGE)) },
    hit = hit_name,
  }
  if hit then
    hit.health = hit.health - 1
    if hit.health == 0 then
      hit.alive, hit.vx, hit.vy = false, 0, 0
      hit.respawn = tick + RESPAWN
      me.score = me.score + 1
      shot.killed = true
    end
  end
  kaos.broadcast(ctx.room_id, nil, kaos.json_encode(shot), nil, { op = 2 })
end

function M.match_init(ctx, params)
  return {
    state = { players = {}, seats = 0, open = true },
    tick_rate = 30,
    max_players = SEATS,
    label = { mode = "arena", open = true },
  }
end

-- Players are told apart by their names here, so a name can be in the arena once.
function M.match_join_attempt(ctx, state, presence, metadata)
  if state.players[presence.username] then
    return state, false, "the name " .. presence.username .. " is taken in this arena; join with another"
  end
  return state, true
end

function M.match_join(ctx, state, presences)
  for _, p in ipairs(presences) do
    local player = { session = p.session_id, score = 0 }
    place(state, player)
    state.players[p.username] = player
  end
  tell_label(ctx, state)
  return state
end

function M.match_leave(ctx, state, presences)
  for _, p in ipairs(presences) do
    local player = state.players[p.username]
    if player and player.session == p.session_id then state.players[p.username] = nil end
  end
  tell_label(ctx, state)
  return state
end

function M.match_loop(ctx, state, tick, messages)
  for _, m in ipairs(messages) do
    local p = state.players[m.sender.username]
    if not p then
      -- Sent before its sender left: nobody is there to act.
    elseif m.op == 1 and #m.data == 1 then
      p.vx, p.vy = clamp(string.unpack("<i1", m.data), -SPEED, SPEED), 0
    elseif m.op == 1 and #m.data == 2 then
      local vx, vy = string.unpack("<i1i1", m.data)
      p.vx, p.vy = clamp(vx, -SPEED, SPEED), clamp(vy, -SPEED, SPEED)
    elseif m.op == 2 then
      fire(ctx, state, tick, m.sender.username, m.data)
    elseif m.op == 3 then
      kaos.broadcast(ctx.room_id, nil, m.data, { m.sender }, { op = 3 })
    elseif m.op == 9 then
      kaos.broadcast(ctx.room_id, m.sender, m.data, nil, { op = 9 })
    end
  end

  -- Once a second: who lost the connection stands still and is shown as away, until back or gone.
  if tick % 30 == 0 then
    for _, presence in ipairs(kaos.room_presences(ctx.room_id)) do
      local p = state.players[presence.username]
      if p then
        p.away = not presence.connected or nil
        if p.away then p.vx, p.vy = 0, 0 end
      end
    end
  end

  for _, p in pairs(state.players) do
    if p.alive then
      p.x, p.y = clamp(p.x + p.vx, 0, SIZE), clamp(p.y + p.vy, 0, SIZE)
      if p.reload and tick >= p.reload then
        p.shots = p.shots + 1
        p.reload = p.shots < SHOTS and tick + RELOAD or nil
      end
    elseif tick >= p.respawn then
      place(state, p)
    end
  end

  if next(state.players) then
    kaos.broadcast(ctx.room_id, nil, kaos.json_encode(state.players), nil, { op = 1 })
  end
  return state
end

function M.match_terminate(ctx, state)
  kaos.broadcast(ctx.room_id, nil, "the server stops", nil, { op = 4 })
  return state
end

function M.match_signal(ctx, state, data)
  local scores = {}
  for name, p in pairs(state.players) do scores[name] = p.score end
  return state, kaos.json_encode(scores)
end

return M
