"""Cancelling tasks that wait for Redis."""

import asyncio
import contextlib

import pytest

from eventlog.redis.failures import RedisCall
from eventlog.redis.server import Server
from tests.integration.eventlog.stage import Stage

CANCELS = 400
# A round takes some ten turns of the loop, so the cancellation comes at each of its awaits many times.
MOST_TURNS = 30


async def test_every_cancellation_ends_its_task(stage: Stage) -> None:
    """A task that does nothing but call Redis ends at its first cancellation, whenever that comes."""
    for number in range(CANCELS):
        stopped = asyncio.Event()
        task = asyncio.create_task(calling(stage.server, stopped))
        for _ in range(1 + number % MOST_TURNS):
            await asyncio.wait([asyncio.create_task(turn())])
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=1)
        stopped.set()
        assert done, f"cancellation {number} was forgotten"
        assert task.cancelled()


async def test_a_cancellation_that_is_pending_already_is_not_forgotten() -> None:
    """A task that is cancelled while it runs, as by Ctrl-C, ends although what it then awaits swallows that."""

    async def interrupted() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with RedisCall(), contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(interrupted())
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()


async def calling(server: Server, stopped: asyncio.Event) -> None:
    """Call Redis again and again."""
    channel = server.keys.partitions[0].feed_channel
    while not stopped.is_set():
        await server.execute_many([("SPUBLISH", channel, "x")])


async def turn() -> None:
    """One turn of the event loop."""


async def test_a_timeout_around_a_call_stays_a_timeout(single: Stage) -> None:
    """A caller's own bound on a call ends as its `TimeoutError`, and cancels nothing beyond."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await single.server.time_ms()
    assert await single.server.time_ms() > 0
