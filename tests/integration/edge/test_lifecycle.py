"""The lifecycle of an edge: it ends loudly as soon as a part of it does, and one session's defect is that session's."""

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from edge.app import STREAM_PATH
from edge.core import EdgeCore
from edge.settings import EdgeSettings
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import connect
from eventlog.telemetry.metering import Meter
from stenolog.local.embedded import free_port
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import FRAME_SAMPLES, PARTITIONS, TTL_S, Client, Replica, frame, replica
from tests.integration.edge.test_resume import pcm, resuming
from tests.integration.edge.test_sessions import ask
from tests.support.commands import environment
from tests.support.waiting import eventually_async

POISON = 13
"""The frame on which the faulty edge's append loop dies."""

FAULTY_EDGE = f"""
from edge.session.append_batcher import AppendBatcher
from tests.integration.edge.replicas import frame

collect = AppendBatcher._collect

def faulty(self):
    batch, appends = collect(self)
    assert all(frame({POISON}) not in append.payload for append in appends), "a defect of the loop"
    return batch, appends

AppendBatcher._collect = faulty

from stenolog.cli import main
main()
"""
"""`stenolog`, but for one line that no test can reach from outside."""


@contextlib.asynccontextmanager
async def faulty_edge(redis_url: str, directory: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run an edge process whose append loop dies on `POISON`; yields the process and its port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FAULTY_EDGE, "edge", "--port", str(port), cwd=directory,
        env=environment(REDIS_URL=redis_url, STENOLOG_PARTITIONS=str(PARTITIONS)), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await eventually_async(lambda: _answers(port, process))
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _answers(port: int, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None
    async with httpx2.AsyncClient() as http:
        with contextlib.suppress(httpx2.TransportError):
            return (await http.get(f"http://127.0.0.1:{port}/v1/health")).status_code == 200
    return False


async def test_a_dead_append_loop_ends_the_process(redis_url: str, tmp_path: Path) -> None:
    """An edge whose append loop dies sends its clients elsewhere and exits with 1; nothing that they resend is lost."""
    async with faulty_edge(redis_url, tmp_path) as (process, port):
        async with Client(f"ws://127.0.0.1:{port}{STREAM_PATH}?") as client:
            start = await client.until("session_start")
            await client.speak(2)
            await client.acked(2 * FRAME_SAMPLES)
            await client.send(frame(POISON))
            assert (await client.until("error"))["code"] == "going_away"
            assert await client.closed() == 1012
        _, logged = await process.communicate()
        assert process.returncode == 1
        assert b"edge ended by a defect; draining its clients" in logged
    async with replica(redis_url) as restarted, restarted.connect(resuming(start)) as client:
        assert (await client.until("session_start"))["offset"] == 2 * FRAME_SAMPLES
        await client.send(frame(POISON))
        await client.acked(3 * FRAME_SAMPLES)
        assert await pcm(restarted, start["session_id"]) == frame(1) + frame(2) + frame(POISON)


@pytest.mark.parametrize("part", ["batcher", "fanout", "watermarks"])
async def test_readiness_is_red_once_a_part_has_ended(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """An edge whose append loop, fan-out or memory sampling has died is red, and `wait` raises what ended it."""
    async with behind(redis_url), replica(redis_url) as edge:
        await eventually_async(lambda: _is_ready(edge))
        await _break(edge, part, monkeypatch)
        with pytest.raises(ZeroDivisionError):
            await edge.core.wait()
        assert edge.core.has_failed
        answer = await ask(edge, "/v1/ready")
        assert answer.status_code == 503
        assert "a part of this process has failed; it restarts" in answer.json()["reasons"]


async def _is_ready(edge: Replica) -> bool:
    return (await ask(edge, "/v1/ready")).status_code == 200


async def _break(edge: Replica, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    match part:
        case "batcher":
            monkeypatch.setattr(edge.log, "append", defect)
            async with edge.connect() as client:
                await client.next()
                await client.speak(1)
        case "fanout":
            monkeypatch.setattr(edge.core.fanout, "_behind", _Broken())
            edge.core.fanout._is_behind.set()
        case _:
            monkeypatch.setattr(edge.core.watermarks, "sample", defect)


class _Broken:
    def __bool__(self) -> bool:
        raise ZeroDivisionError("a defect")


@pytest.mark.parametrize("callback", ["on_settled", "sweep"])
async def test_a_defect_of_one_session_ends_its_connection_alone(edge: Replica, callback: str) -> None:
    """A callback that raises costs its own client a resume, loses nothing of it, and leaves the others and the edge."""
    async with edge.connect() as other:
        await other.next()
        async with edge.connect() as client:
            start = await client.next()
            await client.speak(1)
            await client.acked(FRAME_SAMPLES)
            _raise_in(edge, start["session_id"], callback)
            await client.speak(1, first=2)
            assert (await client.until("error"))["code"] == "internal_error"
            assert await client.closed() == 1011
        await other.speak(2)
        await other.acked(2 * FRAME_SAMPLES)
        assert not edge.core.has_failed
        async with edge.connect(resuming(start)) as client:
            known = (await client.next())["offset"] // FRAME_SAMPLES
            await client.speak(3 - known, first=known + 1)
            await client.acked(3 * FRAME_SAMPLES)
    assert await pcm(edge, start["session_id"]) == b"".join(map(frame, (1, 2, 3)))


async def test_a_defect_in_placing_audio_ends_its_connection_alone(
    edge: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session whose entries can't be made is resumed from its last ack, and the others continue."""
    async with edge.connect() as client, edge.connect() as other:
        start = await client.next()
        await other.next()
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        broken = _connection(edge, start["session_id"]).uplink
        placing = type(broken)._place_audio
        monkeypatch.setattr(type(broken), "_place_audio", lambda self: 1 // (self is not broken) and placing(self))
        await client.speak(1, first=2)
        assert (await client.until("error"))["code"] == "internal_error"
        await other.speak(1)
        await other.acked(FRAME_SAMPLES)
        async with edge.connect(resuming(start)) as again:
            assert (await again.next())["offset"] == FRAME_SAMPLES


async def test_a_defect_at_the_end_is_no_silence(edge: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session whose end can't be sent, by a defect, gets `internal_error` instead of nothing."""
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(edge.core.metrics, "count_ended", broken)
    async with edge.connect() as client:
        await client.send("stop")
        assert (await client.until("error"))["code"] == "internal_error"
        assert await client.closed() == 1011


def _connection(edge: Replica, session_id: str) -> Any:  # noqa: ANN401 - its methods are replaced
    [found] = [one for one in edge.core.connections if one.session.keys.session_id == session_id]
    return found


def _raise_in(edge: Replica, session_id: str, callback: str) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    setattr(_connection(edge, session_id), callback, defect)


async def test_starting_races_stopping(redis_url: str) -> None:
    """However starts and stops of an edge interleave, no task of it is left behind."""
    chance = random.Random(5)
    server = await connect(redis_url, partitions=PARTITIONS)
    before = asyncio.all_tasks()
    for _ in range(20):
        server.meter = Meter()  # one process has one edge
        core = EdgeCore(EdgeSettings(), server, RedisLog(server, session_ttl_s=TTL_S))
        steps = [core.start, core.stop, core.stop]
        chance.shuffle(steps)
        await asyncio.gather(*(step() for step in steps))
        await core.stop()
        assert not core.has_failed
    await eventually_async(lambda: asyncio.all_tasks() <= before)
    await server.close()


async def test_a_stopped_edge_lets_its_waiters_return(redis_url: str) -> None:
    """`wait` returns without an error once the edge is stopped."""
    async with replica(redis_url) as edge:
        waiting = asyncio.create_task(edge.core.wait())
        await edge.leave()
        await waiting
        assert not edge.core.has_failed
