"""Appends of requests that keep no state, on a real log whose answers get lost."""

from collections.abc import AsyncIterator, Sequence

import pytest

from edge.errors import ApiError
from edge.ingest.log_appender import LogAppender
from eventlog.events import ProvisionalRequested, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code, LogFullError, LogUnavailableError
from eventlog.positions import START
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import connect
from tests.integration.edge.replicas import PARTITIONS, TTL_S

SESSION_ID = "7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a"
STARTED = SessionStarted(session_id=SESSION_ID, sample_rate_hz=16_000, shared=True)
CHUNK = b"ab" * 50_000  # two entries


class LossyLog(RedisLog):
    """A log whose next answers are lost: before the call (it never came) or after it (it is written)."""

    keys: SessionKeys
    before: list[LogUnavailableError]
    after: list[LogUnavailableError]

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """See `RedisLog.append`."""
        if self.before:
            raise self.before.pop(0)
        answers = await super().append(appends)
        if self.after:
            raise self.after.pop(0)
        return answers


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[LossyLog]:
    """A log with one session."""
    server = await connect(redis_url, partitions=PARTITIONS)
    found = LossyLog(server, session_ttl_s=TTL_S)
    found.before, found.after, found.keys = [], [], server.keys.of(SESSION_ID)
    await found.open(found.keys, STARTED, "hash")
    yield found
    await server.close()


async def appender_of(log: LossyLog, patience_s: float = 5.0) -> LogAppender:
    """An appender that knows where the end is."""
    appender = LogAppender(log, log.keys, STARTED, outage_timeout_s=patience_s)
    await appender.read_end()
    return appender


async def pcm_in(log: LossyLog) -> bytes:
    """All that was appended."""
    found = await log.read({log.keys: START}, max_bytes_each=1 << 26)
    return b"".join(entry.pcm or b"" for entry in found.get(log.keys, []))


@pytest.mark.parametrize("at_bytes", [None, 0])
async def test_a_lost_answer_duplicates_nothing(log: LossyLog, at_bytes: int | None) -> None:
    """A chunk whose append was written without an answer is in the log once (SAFE-1)."""
    log.after = [LogUnavailableError("lost")]
    assert await (await appender_of(log)).append(CHUNK, at_bytes) == len(CHUNK)
    assert await pcm_in(log) == CHUNK


async def test_a_lost_call_is_repeated(log: LossyLog) -> None:
    """A chunk waits for a log that is away or full, and is then in it."""
    log.before = [LogUnavailableError("away"), LogFullError("full")]
    assert await (await appender_of(log)).append(CHUNK) == len(CHUNK)
    assert await pcm_in(log) == CHUNK


async def test_another_s_entry_is_not_taken_for_one_s_own(log: LossyLog) -> None:
    """If another request's chunk of equal size took the place while the log was away, both are in it (SAFE-1)."""
    appender, other = await appender_of(log), await appender_of(log)
    theirs = b"cd" * 50_000
    await other.append(theirs)
    log.before = [LogUnavailableError("away")]
    assert await appender.append(CHUNK) == len(theirs) + len(CHUNK)
    assert await pcm_in(log) == theirs + CHUNK


async def test_a_repeated_event_is_appended_once(log: LossyLog) -> None:
    """A control event whose answer was lost is in the log once."""
    appender = await appender_of(log)
    await appender.append(b"ab")
    log.after = [LogUnavailableError("lost")]
    await appender.append_event(ProvisionalRequested(request="r1"))
    found = await log.read({log.keys: START}, max_bytes_each=1 << 20)
    assert [str(entry.position) for entry in found[log.keys]] == ["0-1", "1-0", "1-1"]


async def test_a_log_that_stays_full_ends_the_request(log: LossyLog) -> None:
    """A log that stays full ends the request with the durable offset (SESS-10)."""
    appender = await appender_of(log, patience_s=0.1)
    await appender.append(b"abcd")
    log.before = [LogFullError("full")] * 100
    with pytest.raises(ApiError, match="full now; durable up to offset 4") as refused:
        await appender.append(b"efgh")
    assert refused.value.error.status == 503


async def test_audio_is_not_joined_over_a_loss(log: LossyLog) -> None:
    """After a failover that lost audio a request gets the offset to continue from, and appends nothing (SAFE-1)."""
    appender = await appender_of(log)
    await appender.append(b"abcd")
    await log.server.execute("HSET", log.keys.session, "guard", "1 1-0")
    with pytest.raises(ApiError, match="after offset 2") as refused:
        await appender.append(b"efgh")
    assert refused.value.error.code == "log_unavailable"


async def test_known_audio_is_not_appended_again(log: LossyLog) -> None:
    """Of a chunk that overlaps the end only the new part is appended, whichever request appended the rest (LIVE-2)."""
    appender, other = await appender_of(log), await appender_of(log)
    await other.append(b"abcdef")
    assert await appender.append(b"abcdefgh", 0) == 8
    assert await appender.append(b"ef", 4) == 6
    assert await pcm_in(log) == b"abcdefgh"
    with pytest.raises(ApiError, match="ends at 8"):
        await appender.append(b"xy", 10)


async def test_a_stream_is_sealed_once(log: LossyLog) -> None:
    """Sealing twice is harmless, and nothing is appended then."""
    appender = await appender_of(log)
    await appender.seal("stop")
    await appender.seal("stop")
    with pytest.raises(ApiError, match="has ended"):
        await appender.append(b"ab")
    assert await log.seal(log.keys, "stop") is Code.SEALED
