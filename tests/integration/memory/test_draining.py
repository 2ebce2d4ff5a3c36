"""Traffic until Redis is nearly full, and its draining."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from eventlog.positions import Position
from eventlog.redis.memory import Level, node_of
from eventlog.redis.server import connect
from eventlog.work.claims import Claims
from processor.recognisers import load
from processor.settings import WorkerSettings
from processor.worker import Worker
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.runner import ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from tests.e2e.deployment import undisturbed
from tests.e2e.processes import QUERY, Speaker, spoken, texts
from tests.integration.edge.replicas import FRAME_SAMPLES, PARTITIONS, TTL_S, Replica, replica
from tests.integration.memory.full_redis import ballast, fill
from tests.support import servers
from tests.support.servers import Node, Server
from tests.support.waiting import eventually_async

SPEAKERS = 6
# A minute and a half of speech, 3 MB: the sessions bring more than twice the free memory.
SENTENCES = (1, 4, 2, 3) * 3
ROOM_BYTES = 8 << 20
# Times the speed of speech: Redis is full within seconds.
SPEED = 15.0


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A server whose memory a test limits."""
    with servers.standalone() as server:
        yield server


@pytest.fixture
def node(small: Server) -> Node:
    """That server, empty."""
    small.flush()
    return small.nodes[0]


@contextlib.asynccontextmanager
async def behind(redis_url: str, *, audio_retention_s: int = 0) -> AsyncIterator[None]:
    """A worker that retains that much processed audio, and all projections."""
    server = await connect(redis_url, partitions=PARTITIONS)
    models: list[Projection] = [Lists(), Feeds(), Sessions(session_ttl_s=TTL_S), Status()]
    runner = ProjectionRunner(server, models, "test", session_ttl_s=TTL_S)
    await Claims(server, "test", lease_ms=5000, session_ttl_s=TTL_S).ensure_groups()
    settings = WorkerSettings(session_ttl_s=TTL_S, audio_retention_s=audio_retention_s)
    worker = Worker(server, settings, load("mock"), trial=_never)
    await runner.start()
    await worker.start()
    try:
        yield
    finally:
        await worker.stop()
        await runner.stop()
        await server.close()


async def _never(*_: object) -> bool:
    raise AssertionError("no session of these tests kills its worker")


def speaker_of(edge: Replica, query: str = QUERY) -> Speaker:
    """A client that speaks."""
    return Speaker(edge.connect(query).url)


async def started(edge: Replica, count: int) -> list[Speaker]:
    """Some connected clients."""
    speakers = [speaker_of(edge) for _ in range(count)]
    for speaker in speakers:
        await speaker.__aenter__()
        await speaker.begin()
    return speakers


def used(node: Node) -> int:
    """A node's memory."""
    return int(node.client.info("memory")["used_memory"])


async def whole(speakers: Sequence[Speaker]) -> None:
    """Ends every client's session; each must have got all its words, once."""
    ends = await asyncio.gather(*(speaker.finish() for speaker in speakers))
    expected = undisturbed(SENTENCES)
    assert [texts(speaker.finals) for speaker in speakers] == [expected] * len(speakers)
    assert {end["transcript"] for end in ends} == {" ".join(expected)}
    assert [speaker.of("error") for speaker in speakers] == [[]] * len(speakers)


async def test_a_full_log_drains_and_continues(node: Node) -> None:
    """SESS-10, SAFE-1: sessions fill Redis past both watermarks while no worker lives; then all of them end whole."""
    audio = spoken(SENTENCES)
    async with replica(node.url, redis_outage_timeout_s=300, session_end_timeout_s=60) as edge:
        core = edge.core
        speakers = await started(edge, SPEAKERS)
        node.command("CONFIG SET", "maxmemory", used(node) + ROOM_BYTES)
        talking = [asyncio.create_task(speaker.say(audio, speed=SPEED)) for speaker in speakers]
        await eventually_async(
            lambda: core.watermarks.level is Level.CRITICAL and core.batcher.throttled_sessions > 0, 60
        )
        async with edge.connect() as late:
            assert (await late.until("error"))["code"] == "memory_full"
        async with behind(node.url):
            await asyncio.gather(*talking)
            await whole(speakers)
            await eventually_async(lambda: core.watermarks.level is Level.NORMAL, 60)
            [late_speaker] = await started(edge, 1)
            await late_speaker.say(audio)
            await whole([late_speaker])


async def test_a_full_node_throttles_its_own_sessions(cluster: Server) -> None:
    """Of a cluster's nodes one is full: its sessions wait, the others' continue, and new ones open beside it."""
    full = cluster.nodes[1]
    async with replica(cluster.url, redis_outage_timeout_s=300, session_end_timeout_s=0.2) as edge:
        core, server = edge.core, edge.core.server
        name = f"127.0.0.1:{full.port}"
        here, there = [speaker_of(edge) for _ in range(2)], list[Speaker]()
        held: list[Speaker] = []
        while not held or not there:
            speaker = speaker_of(edge)
            await speaker.__aenter__()
            await speaker.begin()
            lies_on = node_of(server, server.keys.of(speaker.session_id).partition)
            (held if lies_on == name else there).append(speaker)
        ballast(full)
        fill(full, 95)
        await eventually_async(lambda: core.watermarks.worst is Level.CRITICAL)
        for speaker in (held[0], there[0]):
            await speaker.speak(1)
        await there[0].acked(FRAME_SAMPLES)
        await eventually_async(lambda: core.batcher.throttled_sessions == 1)
        for speaker in here:
            async with speaker:
                await speaker.begin()
                assert node_of(server, server.keys.of(speaker.session_id).partition) != name
        assert held[0].of("ack") == []
        fill(full, 0)
        await held[0].acked(FRAME_SAMPLES)
        for speaker in (*held, *there):
            await speaker.socket.close()


async def test_retained_audio_is_trimmed_early(node: Node) -> None:
    """REPLAY-1: processed audio that is kept for replays is freed past the high watermark, and kept below it."""
    audio = spoken(SENTENCES)
    async with replica(node.url, session_end_timeout_s=60) as edge, behind(node.url, audio_retention_s=600):
        core = edge.core
        speakers = await started(edge, 2)
        await asyncio.gather(*(speaker.say(audio, speed=SPEED) for speaker in speakers))
        await whole(speakers[:1])
        streams = [core.server.keys.of(speaker.session_id).audio for speaker in speakers]

        async def begins() -> list[int]:
            """The first sample of the audio in the log."""
            first = await core.server.execute_many([("XRANGE", stream, "-", "+", "COUNT", 1) for stream in streams])
            return [Position.parse(entries[0][0]).offset for entries in first]

        async def is_freed() -> bool:
            # The end of one is all that is left of it; of the other also its open utterance.
            return min(await begins()) > len(audio) // 2 // 2

        assert await begins() == [0, 0]
        ballast(node)
        fill(node, 85)
        await eventually_async(is_freed)
        await whole(speakers[1:])
