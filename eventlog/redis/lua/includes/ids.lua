-- Entry ids compared as text: their halves go up to 2^64 - 1, and a Lua number holds 2^53.
local function number_before(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

-- The id of the next entry without audio or utterance; a sequence part stays small.
local function control_after(id)
  local offset, sequence = string.match(id, '^(%d+)-(%d+)$')
  return offset .. '-' .. string.format('%.0f', tonumber(sequence) + 1)
end

local function id_before(a, b)
  local a_first, a_second = string.match(a, '^(%d+)-(%d+)$')
  local b_first, b_second = string.match(b, '^(%d+)-(%d+)$')
  if a_first ~= b_first then
    return number_before(a_first, b_first)
  end
  return number_before(a_second, b_second)
end
