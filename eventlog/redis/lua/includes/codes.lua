-- The scripts' return codes; the same numbers as eventlog.log.Code, which a test holds.
local CODE = {
  OK = 0, GONE = 1, SUPERSEDED = 2, MISPLACED = 3, SEALED = 4, EXISTS = 5, FORBIDDEN = 6, LOST = 7, STALE = 8,
  NOT_IDLE = 9, FULL = 10, TENANT_FULL = 12, NOT_ENDED = 13, TRIMMED = 14,
}
-- The largest entry id: Redis refuses every later entry.
local END = '18446744073709551615-18446744073709551615'
