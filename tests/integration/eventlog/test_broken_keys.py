"""Sessions whose keys hold a value of another type: they fail alone, and the others of the same calls continue."""

import pytest
from redis.exceptions import NoPermissionError

from eventlog.log import Appended, Code
from eventlog.positions import OPENED
from eventlog.redis import redis_log
from eventlog.work.uploads import read_credits
from tests.integration.eventlog.stage import Stage, chunk

OK, BROKEN = Appended(Code.OK), Appended(Code.BROKEN)


@pytest.mark.parametrize("appends_per_call", [2, 4, 200])
async def test_a_broken_session_leaves_the_others_of_its_call(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, appends_per_call: int
) -> None:
    """However appends are cut into calls, the entries of all sessions but the broken one are in the log, once."""
    monkeypatch.setattr(redis_log, "APPENDS_PER_CALL", appends_per_call)
    sessions = [await stage.opened(name) for name in ("before", "broken", "after")]
    appends = []
    for keys in sessions:
        head = OPENED
        for _ in range(3):
            appends.append(chunk(keys, head))
            head = appends[-1].position
    await stage.do("SET", sessions[1].session, "text")
    answers = await stage.log.append(appends)
    assert answers[3:6] == [BROKEN] * 3
    for answer, append in zip(answers[:3] + answers[6:], appends[:3] + appends[6:], strict=True):
        assert answer == OK or (answer.code is Code.MISPLACED and answer.head >= append.position)
    for keys, its_chunks in zip(sessions, (3, 0, 3), strict=True):
        assert len(await stage.entries(keys, OPENED)) == its_chunks


async def test_a_broken_session_alone_in_its_call_is_broken(stage: Stage) -> None:
    """Even if no other session shares the call, the answer names the fault and no exception ends the caller."""
    keys = await stage.opened()
    await stage.do("SET", keys.session, "text")
    assert await stage.append(chunk(keys, OPENED)) == BROKEN


async def test_a_missing_right_is_no_session_s_fault(single: Stage) -> None:
    """A user that may not run scripts gets the error itself, which ends its process."""
    keys = await single.opened()
    other = await single.opened("s2")
    await single.do("ACL", "SETUSER", "default", "-evalsha")
    try:
        with pytest.raises(NoPermissionError):
            await single.log.append([chunk(keys, OPENED), chunk(other, OPENED)])
    finally:
        await single.do("ACL", "SETUSER", "default", "+evalsha")


async def test_signs_of_life_reach_the_other_sessions(stage: Stage) -> None:
    """A broken session takes no keepalive from the sessions beside it."""
    sessions = [await stage.opened(name) for name in ("before", "broken", "after")]
    await stage.do("SET", sessions[1].session, "text")
    for keys in (sessions[0], sessions[2]):
        await stage.do("HSET", keys.session, "seen_ms", 1)
    await stage.log.touch([(keys, 1) for keys in sessions])
    for keys in (sessions[0], sessions[2]):
        assert int(await stage.do("HGET", keys.session, "seen_ms")) > 1


async def test_credit_is_read_beside_a_broken_session(stage: Stage) -> None:
    """A broken session gets credit without a bound, so that its append reports the fault; the others get their own."""
    whole, broken = await stage.opened("whole"), await stage.opened("broken")
    await stage.do("HSET", whole.upload.session, "credit_bytes", 99, "guard", "1 0-1")
    await stage.do("SET", broken.upload.session, "text")
    granted = await read_credits(stage.server, ["broken", "whole"], 77)
    assert granted[0] > 1 << 60
    assert granted[1] == 99
