"""How many functions one chunk passes from the socket to the List."""

import asyncio
import json

import numpy as np
import pytest
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_socket

from eventlog.redis.server import connect
from eventlog.work.claims import Claims
from processor.recognisers.loading import load
from processor.settings import WorkerSettings
from processor.worker import Worker
from projections import runner as projection_runner
from projections.lists import Lists
from projections.runner import ProjectionRunner
from tests.integration.edge.replicas import PARTITIONS, TTL_S, replica
from tests.support.call_path import CallPath
from tests.support.pcm import sentence
from tests.support.waiting import eventually_async, lasting

MOST_FUNCTIONS = 45
RATE_HZ = 8_000
IDLE_S = 4.0  # the slowest heartbeat beats within it, so that it doesn't count as a part of the path


async def never_tried(*_: object) -> bool:
    """No session here kills its worker."""
    raise AssertionError


def speech() -> bytes:
    """A second of speech and one of silence: an utterance that its chunk both begins and ends."""
    spoken = sentence("0880")[4_000:24_000:2]
    return np.concatenate([np.zeros(1_600, np.int16), spoken, np.zeros(7_000, np.int16)]).tobytes()


async def test_one_chunk_passes_few_functions(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its frame on the socket to its final in the List a chunk passes at most 45 functions of ours."""
    monkeypatch.setattr(projection_runner, "SWEEP_S", 0.5)
    path = CallPath()
    path.watch_threads()
    server = await connect(redis_url, partitions=PARTITIONS)
    runner = ProjectionRunner(server, [Lists()], "test", session_ttl_s=TTL_S)
    await Claims(server, "test", lease_ms=1_500, session_ttl_s=TTL_S).ensure_groups()
    settings = WorkerSettings(session_ttl_s=TTL_S, partials_per_s=0, lease_ms=1_500)
    worker = Worker(server, settings, load("mock"), trial=never_tried)
    try:
        await runner.start()
        await worker.start()
        async with replica(redis_url) as edge:
            url = f"ws://127.0.0.1:{edge.port}/v1/transcribe/stream?sample_rate={RATE_HZ}&hangover_ms=300"
            socket: ClientConnection = await asyncio.to_thread(connect_socket, url)
            start = json.loads(await asyncio.to_thread(socket.recv))
            keys = server.keys.of(start["session_id"])
            await asyncio.to_thread(socket.send, bytes(1_600))  # the session is claimed and read before anything counts
            await eventually_async(lambda: len(worker.active_runs) == 1)
            await lasting(1.5)  # until what followed the opening is over
            with path.idle():
                await lasting(IDLE_S)
            with path.event():
                await asyncio.to_thread(socket.send, speech())
                while not await server.execute("LLEN", keys.list):
                    await lasting(0.01)
                await lasting(0.3)  # for the ack of whatever came last
            await asyncio.to_thread(socket.close)
    finally:
        path.unwatch()
        await worker.stop()
        await runner.stop()
        await server.close()
    functions = path.functions(passed=True)
    print(len(path.functions()))
    assert len(functions) <= MOST_FUNCTIONS, "\n".join(functions)
