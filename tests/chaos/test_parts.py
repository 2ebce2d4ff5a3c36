"""The suite's own parts: proxy, Redis, clocks, and repeatable scenarios."""

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

from tests.chaos.client_audio import audio_of
from tests.chaos.clock import Clock, compiled
from tests.chaos.plan import WEIGHTS, draw_scenario
from tests.chaos.redis_process import RedisProcess
from tests.chaos.role_processes import cancel
from tests.chaos.tcp_proxy import TcpProxy
from tests.support.waiting import eventually_async

MESSAGE = bytes(range(200))


@pytest.fixture
async def redis_process(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    """A Redis with an append-only file and a clock of its own."""
    found = RedisProcess(tmp_path / "redis", Clock(compiled(tmp_path), tmp_path / "clock"))
    await found.start()
    yield found
    await found.close()


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of an echo server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def test_a_seed_draws_the_same_again() -> None:
    """The same seed draws the same faults and clients, another seed draws others."""
    scenario, again, other = draw_scenario(7, 60), draw_scenario(7, 60), draw_scenario(8, 60)
    assert scenario == again
    assert scenario.faults != other.faults
    assert list(islice(scenario.sessions(3), 5)) == list(islice(again.sessions(3), 5))
    assert next(scenario.sessions(3)) != next(other.sessions(3))


def test_every_kind_of_fault_is_drawn() -> None:
    """Each kind comes once before any comes twice, and none that can't be injected."""
    assert sorted(fault.kind for fault in draw_scenario(3, len(WEIGHTS)).faults) == sorted(WEIGHTS)
    assert "power loss" not in {fault.kind for fault in draw_scenario(3, 500, without=frozenset({"power loss"})).faults}


def test_no_two_sessions_have_the_same_audio() -> None:
    """No two sessions send the same audio, so that audio in a wrong session shows."""
    scenario = draw_scenario(1, 0)
    plans = [plan for number in range(4) for plan in islice(scenario.sessions(number), 5)]
    assert len({audio_of(plan).samples.tobytes() for plan in plans}) == 20


async def test_a_proxy_cuts_in_the_middle_of_a_message(echo: int) -> None:
    """A cut connection carries half of the next message and is reset; the next connection is whole."""
    async with TcpProxy(lambda: [echo], random.Random(1)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(MESSAGE)
        assert await reader.readexactly(len(MESSAGE)) == MESSAGE
        [link] = proxy.links
        link.cut()
        writer.write(MESSAGE)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(len(MESSAGE))
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(MESSAGE)
        assert await reader.readexactly(len(MESSAGE)) == MESSAGE


async def test_a_stalled_proxy_carries_everything_later(echo: int) -> None:
    """A stalled connection carries nothing, and everything once it is resumed."""
    async with TcpProxy(lambda: [echo], random.Random(1)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await eventually_async(lambda: bool(proxy.links))
        proxy.stall()
        writer.write(MESSAGE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)
        proxy.resume()
        assert await reader.readexactly(len(MESSAGE)) == MESSAGE


async def test_power_loss_takes_unsynced_writes(redis_process: RedisProcess) -> None:
    """Power loss keeps synced writes and takes later ones; a mere kill takes nothing."""
    await redis_process.client.set("before", 1)
    watching = asyncio.create_task(redis_process.watch_syncs())
    await eventually_async(lambda: bool(redis_process.synced_bytes))
    reached = redis_process.synced_bytes
    await eventually_async(lambda: redis_process.synced_bytes > reached, message="the write is synced")
    await cancel(watching)
    await redis_process.client.set("killed", 1)
    await redis_process.end(signal.SIGKILL)
    await redis_process.start()
    assert await redis_process.client.get("killed") == b"1"
    await redis_process.client.set("after", 1)
    await redis_process.lose_power()
    await redis_process.start()
    assert await redis_process.client.get("before") == b"1"
    assert await redis_process.client.get("after") is None
    assert redis_process.losses[0].lost_bytes > 0


async def test_redis_has_a_clock_of_its_own(redis_process: RedisProcess) -> None:
    """Redis's wall clock steps both ways, and its keys' TTLs with it."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler here")

    async def seconds() -> int:
        return int((await redis_process.client.time())[0])

    async def stepped(by_s: int) -> bool:
        return abs(await seconds() - before_s - by_s) < 50

    before_s = await seconds()
    await redis_process.client.set("short", 1, ex=60)
    redis_process.clock.step(100_000)
    await eventually_async(lambda: stepped(100))
    assert await redis_process.client.get("short") is None
    redis_process.clock.step(-100_000)
    await eventually_async(lambda: stepped(0))


async def test_a_halted_redis_answers_no_caller(redis_process: RedisProcess) -> None:
    """A halted server delays its callers, and continues with all its data."""
    await redis_process.client.set("kept", 1)
    redis_process.send(signal.SIGSTOP)
    impatient = redis.Redis(port=redis_process.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0))
    with pytest.raises(redis.TimeoutError):
        impatient.ping()
    impatient.close()
    redis_process.send(signal.SIGCONT)
    await eventually_async(redis_process.answers)
    assert await redis_process.client.get("kept") == b"1"
