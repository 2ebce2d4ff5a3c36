"""The suite's own tools: what they do to others, and that a plan can be drawn again."""

import asyncio
import random
import shutil
import signal
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.clock import Clock, compiled
from tests.chaos.gate import Gate
from tests.chaos.plan import WEIGHTS, drawn
from tests.chaos.stack import ended
from tests.chaos.store import Store
from tests.chaos.voices import voice
from tests.support.waiting import eventually_async

MESSAGE = bytes(range(200))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A Redis with an append-only file and a clock of its own."""
    found = Store(tmp_path / "redis", Clock(compiled(tmp_path), tmp_path / "clock"))
    await found.start()
    yield found
    await found.close()


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A port that answers what it is told."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def test_a_seed_draws_the_same_again() -> None:
    """The same seed gives the same faults and the same clients, another seed others."""
    script, again, other = drawn(7, 60), drawn(7, 60), drawn(8, 60)
    assert script == again
    assert script.faults != other.faults
    assert list(islice(script.speeches(3), 5)) == list(islice(again.speeches(3), 5))
    assert next(script.speeches(3)) != next(other.speeches(3))


def test_every_kind_of_fault_is_drawn() -> None:
    """Each kind comes once before any comes twice, and none that can't be made."""
    assert sorted(fault.kind for fault in drawn(3, len(WEIGHTS)).faults) == sorted(WEIGHTS)
    assert "power loss" not in {fault.kind for fault in drawn(3, 500, without=frozenset({"power loss"})).faults}


def test_no_two_sessions_have_the_same_audio() -> None:
    """What one session hears of another would show, since no two are alike."""
    script = drawn(1, 0)
    heard = {voice(speech).samples.tobytes() for seat in range(4) for speech in islice(script.speeches(seat), 5)}
    assert len(heard) == 20


async def test_a_gate_cuts_in_the_middle_of_a_message(echo: int) -> None:
    """A doomed connection carries half of what comes next and is reset; the next connection is whole."""
    async with Gate(lambda: [echo], random.Random(1)) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(MESSAGE)
        assert await reader.readexactly(len(MESSAGE)) == MESSAGE
        [link] = gate.links
        link.doom()
        writer.write(MESSAGE)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(len(MESSAGE))
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(MESSAGE)
        assert await reader.readexactly(len(MESSAGE)) == MESSAGE


async def test_a_stalled_gate_carries_all_of_it_later(echo: int) -> None:
    """While it is stalled nothing comes through, and everything does once it flows again."""
    async with Gate(lambda: [echo], random.Random(1)) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        await eventually_async(lambda: bool(gate.links))
        gate.stall()
        writer.write(MESSAGE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)
        gate.flow()
        assert await reader.readexactly(len(MESSAGE)) == MESSAGE


async def test_power_loss_takes_what_was_not_synced(store: Store) -> None:
    """What was on disk is there afterwards, what came later is not; a mere kill takes nothing."""
    await store.client.set("before", 1)
    watching = asyncio.create_task(store.watch_syncs())
    await eventually_async(lambda: bool(store.synced_bytes))
    reached = store.synced_bytes
    await eventually_async(lambda: store.synced_bytes > reached, message="what was set before is synced")
    await ended(watching)
    await store.client.set("killed", 1)
    await store.end(signal.SIGKILL)
    await store.start()
    assert await store.client.get("killed") == b"1"
    await store.client.set("after", 1)
    await store.lose_power()
    await store.start()
    assert await store.client.get("before") == b"1"
    assert await store.client.get("after") is None
    assert store.losses[0].lost_bytes > 0


async def test_redis_has_a_clock_of_its_own(store: Store) -> None:
    """Its wall clock steps both ways, and its keys' lives with it."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler here")

    async def seconds() -> int:
        return int((await store.client.time())[0])

    async def stepped(by_s: int) -> bool:
        return abs(await seconds() - before_s - by_s) < 50

    before_s = await seconds()
    await store.client.set("short", 1, ex=60)
    store.clock.step(100_000)
    await eventually_async(lambda: stepped(100))
    assert await store.client.get("short") is None
    store.clock.step(-100_000)
    await eventually_async(lambda: stepped(0))


async def test_a_stopped_redis_answers_nobody(store: Store) -> None:
    """A halted server keeps its callers waiting, and goes on with all it had."""
    await store.client.set("kept", 1)
    store.send(signal.SIGSTOP)
    impatient = redis.Redis(port=store.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0))
    with pytest.raises(redis.TimeoutError):
        impatient.ping()
    impatient.close()
    store.send(signal.SIGCONT)
    await eventually_async(store.answers)
    assert await store.client.get("kept") == b"1"
