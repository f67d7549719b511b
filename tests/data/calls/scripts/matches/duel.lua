-- A match for two that does nothing but tell what it was signalled.
local M = {}

function M.match_init(_, params)
  return { state = {}, tick_rate = 5, max_players = 2, label = { mode = params and params.mode or "none" } }
end

function M.match_join(_, state) return state end
function M.match_leave(_, state) return state end
function M.match_loop(_, state) return state end
function M.match_signal(_, state, data) return state, { heard = data } end

return M
