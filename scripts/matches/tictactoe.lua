-- Tic-tac-toe: two players, turn by turn; the server alone decides what is legal. All data is JSON.
--
-- From clients
--   op 1   a move: {"cell": 5}, cells 1 to 9 from the top left, row by row
--   op 3   another round, once one is over; the data is not looked at
-- To clients
--   op 1   after every change: {"board":["x","","o",...],"players":{"x":"ada","o":"bob"},"turn":"x"}; when it is over
--          without "turn", with "winner":"x", "o" or "draw", and "line":[1,5,9] or "why":"left"
--   op 2   to one player only: the move was refused, {"error":"not_your_turn","message":"..."}; error is one of
--          bad_data, not_playing, waiting, over, not_over, not_your_turn, no_such_cell, taken

local M = {}

local LINES = {
  { 1, 2, 3 }, { 4, 5, 6 }, { 7, 8, 9 },
  { 1, 4, 7 }, { 2, 5, 8 }, { 3, 6, 9 },
  { 1, 5, 9 }, { 3, 5, 7 },
}
local OTHER = { x = "o", o = "x" }

local function empty_board()
  return { "", "", "", "", "", "", "", "", "" }
end

-- A round begins when both seats are taken; who began last time is second now.
local function begin(state)
  state.board, state.winner, state.line, state.why = empty_board(), nil, nil, nil
  state.turn = nil
  if state.seats.x and state.seats.o then
    state.turn = state.first
    state.first = OTHER[state.first]
  end
end

local function tell(ctx, state)
  kaos.broadcast(ctx.room_id, nil, kaos.json_encode({
    board = state.board,
    players = { x = state.seats.x and state.seats.x.username, o = state.seats.o and state.seats.o.username },
    turn = state.turn,
    winner = state.winner,
    line = state.line,
    why = state.why,
  }), nil, { op = 1 })
end

local function refuse(ctx, presence, error, message)
  local text = kaos.json_encode({ error = error, message = message })
  kaos.broadcast(ctx.room_id, nil, text, { presence }, { op = 2 })
end

local function mark_of(state, presence)
  for mark, seat in pairs(state.seats) do
    if seat.session_id == presence.session_id then return mark end
  end
end

local function finish(state)
  for _, line in ipairs(LINES) do
    local mark = state.board[line[1]]
    if mark ~= "" and mark == state.board[line[2]] and mark == state.board[line[3]] then
      state.winner, state.line, state.turn = mark, line, nil
      return
    end
  end
  for _, mark in ipairs(state.board) do
    if mark == "" then return end
  end
  state.winner, state.turn = "draw", nil
end

-- Makes the move, or says in one word and one sentence why not.
local function move(state, mark, data)
  local ok, message = pcall(kaos.json_decode, data)
  if not ok or type(message) ~= "table" then return "bad_data", 'a move is JSON such as {"cell": 5}' end
  if state.winner then return "over", "this round is over; op 3 begins another" end
  if not state.turn then return "waiting", "wait for a second player" end
  if state.turn ~= mark then return "not_your_turn", "it is the turn of " .. state.turn end
  local cell = math.tointeger(message.cell)
  if not cell or cell < 1 or cell > 9 then return "no_such_cell", "cells have the numbers 1 to 9" end
  if state.board[cell] ~= "" then return "taken", "cell " .. cell .. " is taken" end
  state.board[cell] = mark
  state.turn = OTHER[mark]
  finish(state)
end

function M.match_init(ctx, params)
  return {
    state = { board = empty_board(), seats = {}, first = "x" },
    tick_rate = 5,
    max_players = 2,
    label = { mode = "tictactoe", open = true },
  }
end

function M.match_join(ctx, state, presences)
  for _, p in ipairs(presences) do
    local mark = not state.seats.x and "x" or "o"
    state.seats[mark] = { session_id = p.session_id, username = p.username }
  end
  if state.seats.x and state.seats.o then
    kaos.room_label(ctx.room_id, { mode = "tictactoe", open = false })
    begin(state)
  end
  tell(ctx, state)
  return state
end

-- Who goes during a round has lost it. The seat is free for another player, and a new round.
function M.match_leave(ctx, state, presences)
  for _, p in ipairs(presences) do
    local mark = mark_of(state, p)
    if mark then
      state.seats[mark] = nil
      if state.turn then state.winner, state.why, state.turn = OTHER[mark], "left", nil end
    end
  end
  kaos.room_label(ctx.room_id, { mode = "tictactoe", open = true })
  tell(ctx, state)
  return state
end

function M.match_loop(ctx, state, tick, messages)
  local changed = false
  for _, m in ipairs(messages) do
    local mark = mark_of(state, m.sender)
    local error, message
    if not mark then
      error, message = "not_playing", "you have no seat in this game"
    elseif m.op == 1 then
      error, message = move(state, mark, m.data)
    elseif m.op == 3 and state.winner then
      begin(state)
    elseif m.op == 3 then
      error, message = "not_over", "this round is not over"
    else
      error, message = "bad_data", "ops are 1 (move) and 3 (another round)"
    end
    if error then refuse(ctx, m.sender, error, message) else changed = true end
  end
  if changed then tell(ctx, state) end
  return state
end

return M
