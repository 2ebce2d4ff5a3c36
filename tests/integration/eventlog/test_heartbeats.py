"""Heartbeats on a real server."""

import pytest

from eventlog import keys
from eventlog.redis.server import Server, connect
from eventlog.work import heartbeats
from tests.support.servers import Server as TestServer


async def connected(server: TestServer) -> Server:
    """A connection."""
    return await connect(server.url)


async def test_heartbeats_have_role_consumer_age_and_payload(server: TestServer) -> None:
    """Each role of each process is listed with its last heartbeat, the latest first (SESS-5)."""
    log = await connected(server)
    await heartbeats.write(log, "worker", "a b", {"claims": 1})
    await heartbeats.write(log, "worker", "c", {"claims": 2})
    await heartbeats.write(log, "worker", "a b", {"claims": 3})
    found = await heartbeats.read_all(log)
    assert {(beat.role, beat.consumer, beat.payload["claims"]) for beat in found} == {
        ("worker", "a b", 3), ("worker", "c", 2),
    }
    assert all(0 <= beat.age_ms < 10_000 for beat in found)
    await log.close()


async def test_silent_heartbeats_are_deleted(server: TestServer) -> None:
    """A read deletes heartbeats that are too old, and fields that are no heartbeat."""
    log = await connected(server)
    now_ms = await log.time_ms()
    await log.execute("HSET", keys.heartbeats(), "worker old", f"{now_ms - 300_001} {{}}", "odd", "?")
    await log.execute("HSET", keys.heartbeats(), "worker late", f"{now_ms - 200_000} {{}}")
    assert [beat.consumer for beat in await heartbeats.read_all(log)] == ["late"]
    assert await log.execute("HKEYS", keys.heartbeats()) == [b"worker late"]
    await log.close()


async def test_a_heartbeat_is_small(server: TestServer) -> None:
    """A payload that would make every read costly is refused."""
    log = await connected(server)
    with pytest.raises(ValueError, match="at most 4096"):
        await heartbeats.write(log, "worker", "a", {"text": "x" * 5000})
    assert await heartbeats.read_all(log) == []
    await log.close()
