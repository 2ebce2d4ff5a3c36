"""Status messages as subscribers of Redis get them."""

import asyncio

import msgspec
import redis.asyncio as redis

from eventlog.keys import status_channel
from eventlog.positions import SEALED, START, Position
from eventlog.projection.operations import announce, expire, put
from eventlog.projection.projection_log import Apply, ProjectionLog
from eventlog.readmodel.statuses import decode_status, has_ended, read_last_status, read_statuses
from eventlog.redis.server import Server
from projections.runner import ProjectionRunner
from projections.status import Status
from tests.integration.projections.facts import a_run, conversation, write
from tests.support.waiting import eventually_async

TTL_S = 1000


async def test_status_messages_are_published_and_kept(log: Server) -> None:
    """A plain subscription on any node gets each message; they are kept for 300 s after the end (STATUS-5)."""
    keys = a_run(log)
    runner = ProjectionRunner(log, [Status()], "c", session_ttl_s=TTL_S)
    async with redis.Redis.from_url(log.url) as client, client.pubsub() as subscription:
        await subscription.subscribe(f"transcription:status:{keys.session_id}")
        async with asyncio.timeout(10):
            assert (await subscription.get_message(timeout=None))["type"] == "subscribe"
        await runner.start()
        await write(log, keys, conversation(keys, 4))
        received: list[bytes] = []
        async with asyncio.timeout(10):
            while not received or not decode_status(received[-1]).is_last:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=None)
                received += [message["data"]] if message else []
    await eventually_async(lambda: has_ended(log, keys))
    await runner.stop()
    assert [body for _, body in await read_statuses(log, keys, START)] == received
    assert await read_last_status(log, keys) == (Position(len(received), 0), received[-1])
    assert msgspec.json.decode(received[-1])["status"] == "completed"
    assert 290 <= await log.execute("TTL", keys.status) <= 300
    assert await log.execute("TTL", keys.projected("status")) > 900


async def test_an_own_ttl_wins_over_the_sessions(log: Server) -> None:
    """In one application an EXPIRE holds for its key wherever it stands, and the others get the session's TTL."""
    keys = a_run(log)
    await write(log, keys, conversation(keys, 1))
    of = ProjectionLog(log, "status", "c", session_ttl_s=TTL_S)
    ops = [expire(keys.list, 50), put(keys.list, b"1"), announce(status_channel("x"), b"!"), put(keys.document, b"2")]
    [answer] = await of.apply([Apply(keys, START, SEALED, ops)])
    assert answer.code.name == "OK"
    assert 40 <= await log.execute("TTL", keys.list) <= 50
    assert 900 <= await log.execute("TTL", keys.document) <= TTL_S


async def test_one_bad_run_of_a_call_leaves_the_others_alone(log: Server) -> None:
    """Where a script fails at one run of many, each other is applied all the same, once."""
    keys = [a_run(log) for _ in range(3)]
    for run in keys:
        await write(log, run, conversation(run, 1))
    await log.execute("LPUSH", keys[1].projected("status"), "no string")
    of = ProjectionLog(log, "status", "c", session_ttl_s=TTL_S)
    answers = await of.apply([Apply(run, START, SEALED, [put(run.document, b"x")]) for run in keys])
    first, bad, last = (answer.code.name for answer in answers)
    assert bad == "MISPLACED"
    assert {first, last} <= {"OK", "STALE"}
    assert [await log.execute("GET", run.document) for run in keys] == [b"x", None, b"x"]
