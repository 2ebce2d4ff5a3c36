#!lua flags=no-writes,allow-oom
-- Purpose: read each run's facts after the position up to which a projection has applied it.
-- KEYS: per run: projected (string), transcript (stream)
-- ARGV: 1 max facts of each run
-- Returns: per run {position, list of id, fact, id, fact, …}, or {"", reason} where a key is none of ours
-- Atomic: position and facts of a run belong together
-- Retry: harmless
local END = '18446744073709551615-18446744073709551615'
local answers = {}
for i = 1, #KEYS, 2 do
  local position = redis.pcall('GET', KEYS[i]) or '0-0'
  local entries, facts = {}, {}
  if type(position) == 'string' and position ~= END then
    entries = redis.pcall('XRANGE', KEYS[i + 1], '(' .. position, '+', 'COUNT', ARGV[1])
    for _, entry in ipairs(entries) do
      facts[#facts + 1] = entry[1]
      facts[#facts + 1] = entry[2][2] or ''
    end
  end
  local error = type(position) == 'table' and position.err or entries.err
  answers[#answers + 1] = error and {'', error} or {position, facts}
end
return answers
