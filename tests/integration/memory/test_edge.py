"""Edges over a Redis that is short of memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from eventlog.positions import START
from tests.integration.edge.replicas import FRAME_SAMPLES, Client, Replica, frame, replica
from tests.integration.memory.full_redis import ballast, fill
from tests.support import servers
from tests.support.metric_samples import of, samples
from tests.support.servers import Node, Server
from tests.support.waiting import eventually_async

FREE, REFUSING, HOLDING = 0.0, 85.0, 95.0
CHUNK = bytes(2 * FRAME_SAMPLES)
RAW_START = "/live/start?encoding=linear16"


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A server whose memory a test limits."""
    with servers.standalone() as server:
        yield server


@pytest.fixture
def node(small: Server) -> Node:
    """That server, empty but for its ballast."""
    small.flush()
    ballast(small.nodes[0])
    return small.nodes[0]


@pytest.fixture
async def edge(node: Node) -> AsyncIterator[Replica]:
    """An edge with nothing behind it."""
    async with replica(node.url, session_end_timeout_s=0.2) as running:
        yield running


async def fills(edge: Replica, node: Node, percent: float) -> None:
    """Makes Redis that full, and returns once the edge has read it."""
    fill(node, percent)
    limit = int(node.client.config_get("maxmemory")["maxmemory"] or 0)
    await eventually_async(lambda: [one.limit_bytes for one in edge.core.watermarks.nodes.values()] == [limit])


async def pcm_in(edge: Replica, client: Client) -> bytes:
    """A client's audio in the log."""
    keys = edge.core.server.keys.of(client.received[0]["session_id"])
    found = await edge.log.read({keys: START}, max_bytes_each=1 << 26)
    return b"".join(entry.pcm or b"" for entry in found.get(keys, []))


async def test_past_the_high_watermark_new_sessions_are_refused(edge: Replica, node: Node) -> None:
    """At 80 % of maxmemory new sessions get `memory_full` and 503; an old one is fed and resumed; then all resume."""
    async with edge.connect() as old, httpx2.AsyncClient(base_url=edge.http, timeout=30) as http:
        start = await old.until("session_start")
        await fills(edge, node, REFUSING)
        async with edge.connect() as late:
            assert (await late.until("error"))["code"] == "memory_full"
            assert await late.closed() == 1013
        for path, body in (("/live/start", b""), ("/v1/transcribe?encoding=linear16", CHUNK)):
            answer = await http.post(path, content=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "memory_full")
            assert int(answer.headers["retry-after"]) >= 1
        await old.speak(1)
        await old.acked(FRAME_SAMPLES)
        old.cut()
        query = f"session_id={start['session_id']}&resume_token={start['resume_token']}"
        async with edge.connect(query) as resumed:
            assert (await resumed.until("session_start"))["offset"] == FRAME_SAMPLES
            await resumed.speak(1)
            await resumed.acked(2 * FRAME_SAMPLES)
        await fills(edge, node, FREE)
        async with edge.connect() as new:
            await new.until("session_start")


async def test_past_the_critical_watermark_audio_waits(edge: Replica, node: Node) -> None:
    """At 90 % none of a session's audio is appended or acked; below the watermark all of it is, by itself, in order."""
    async with edge.connect() as client:
        await client.until("session_start")
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        await fills(edge, node, HOLDING)
        await client.speak(9, first=2)
        await eventually_async(lambda: edge.core.batcher.throttled_sessions == 1)
        assert await pcm_in(edge, client) == frame(1)
        assert client.of("ack")[-1]["offset"] == FRAME_SAMPLES
        await fills(edge, node, 89)  # within the hysteresis
        assert edge.core.batcher.throttled_sessions == 1
        await fills(edge, node, REFUSING)
        await client.acked(10 * FRAME_SAMPLES)
        assert await pcm_in(edge, client) == b"".join(map(frame, range(1, 11)))
        assert client.of("error") == []


async def test_sessions_end_while_audio_waits(edge: Replica, node: Node) -> None:
    """A session all of whose audio is in the log is ended at 90 % as ever: its end needs next to nothing."""
    async with edge.connect() as client:
        await client.until("session_start")
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        await fills(edge, node, HOLDING)
        await client.send("stop")
        assert await client.closed() == 1000
        assert client.of("session_end")


async def test_sockets_are_read_no_further(edge: Replica, node: Node) -> None:
    """While audio waits an edge keeps no more than `unacked_bytes` and a frame of each session."""
    bound = edge.core.settings.max_unacked_bytes
    async with edge.connect() as client:
        await client.until("session_start")
        await fills(edge, node, HOLDING)
        block = bytes(256 * 1024)
        with contextlib.suppress(TimeoutError):
            for _ in range(2 * bound // len(block)):
                await client.send(block)
        [connection] = edge.core.connections
        await eventually_async(lambda: connection.uplink.unacked_bytes > bound)
        assert connection.uplink.unacked_bytes <= bound + len(block)
        await fills(edge, node, FREE)
        await client.acked(bound)


async def test_a_client_that_waits_for_long_is_closed(node: Node) -> None:
    """A client whose audio waits for `redis_outage_timeout_s` gets the durable offset, and resumes from there."""
    async with replica(node.url, redis_outage_timeout_s=0.5) as edge, edge.connect() as client:
        await client.until("session_start")
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        await fills(edge, node, HOLDING)
        await client.speak(1, first=2)
        error = await client.until("error")
        assert error["code"] == "log_unavailable"
        assert f"offset {FRAME_SAMPLES}" in error["message"]
        assert await client.closed() == 1013


async def test_chunks_of_requests_wait_too(edge: Replica, node: Node) -> None:
    """A chunk that comes by HTTP at 90 % is taken and answered once Redis has memory."""
    async with httpx2.AsyncClient(base_url=edge.http, timeout=60) as http:
        session_id = (await http.post(RAW_START)).json()["session_id"]
        await fills(edge, node, HOLDING)
        async with asyncio.TaskGroup() as group:
            posting = group.create_task(http.post(f"/live/{session_id}/audio?offset=0", content=CHUNK))
            await eventually_async(lambda: edge.core.watermarks.waiting_requests == 1)
            assert not posting.done()
            await fills(edge, node, FREE)
        assert posting.result().json()["offset"] == len(CHUNK)


async def test_requests_do_not_wait_for_ever(node: Node) -> None:
    """A chunk that waited for `redis_outage_timeout_s` gets 503 with the durable offset, and can be sent again."""
    async with (
        replica(node.url, redis_outage_timeout_s=0.2) as edge,
        httpx2.AsyncClient(base_url=edge.http, timeout=60) as http,
    ):
        session_id = (await http.post(RAW_START)).json()["session_id"]
        await fills(edge, node, HOLDING)
        answer = await http.post(f"/live/{session_id}/audio?offset=0", content=CHUNK)
        assert (answer.status_code, answer.json()["code"]) == (503, "memory_full")
        assert "offset 0" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        await fills(edge, node, FREE)
        again = await http.post(f"/live/{session_id}/audio?offset=0", content=CHUNK)
        assert again.json()["offset"] == len(CHUNK)


async def test_memory_is_reported(edge: Replica, node: Node) -> None:
    """Readiness warns of a Redis that is nearly full and is red once no audio is taken; metrics say how full it is."""
    async with httpx2.AsyncClient(base_url=edge.http, timeout=30) as http:
        await fills(edge, node, REFUSING)

        async def ready() -> dict[str, object]:
            found: dict[str, object] = (await http.get("/v1/ready")).json()
            return found

        async def warns() -> bool:
            return "no new sessions where it is" in str((await ready())["warnings"])

        async def is_red() -> bool:
            return "no audio is appended" in str((await ready())["reasons"])

        await eventually_async(warns)
        assert "memory" not in str((await ready())["reasons"])
        found = samples((await http.get("/metrics")).text)
        assert 0.8 < of(found, "stenolog_redis_memory_ratio", node="redis") < 0.9
        await fills(edge, node, HOLDING)
        await eventually_async(is_red)
        assert 90 < float(str((await ready())["memory_percent"])) < 100
