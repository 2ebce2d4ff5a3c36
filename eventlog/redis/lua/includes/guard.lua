-- A session's guard is one field, "<epoch> <head>", so that an append compares and moves it in a single step each.
local function parts(guard)
  local epoch, head = string.match(guard, '^(%d+) (.+)$')
  return epoch, head
end
