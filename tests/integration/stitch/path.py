"""The whole path in one process over a real Redis, and sessions held through it."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, Phase, settings

from edge.app import create_app
from edge.server.server import edge_server
from edge.settings import EdgeSettings
from eventlog.codec import decode_audio_event
from eventlog.events import Finalized
from eventlog.keys import RunKeys, SessionKeys
from eventlog.log import Code
from eventlog.positions import START
from eventlog.readmodel.documents import ListedFinal, decode_final
from eventlog.readmodel.feed import read_feed
from eventlog.readmodel.views import read_document
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server, connect
from processor.recognisers.mock import MockRecogniser
from processor.settings import WorkerSettings
from processor.worker import Worker
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.public_json import to_listed_final
from projections.runner import ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from tests.integration.edge.replicas import Client, Replica
from tests.integration.stitch.speakers import FRAME_SAMPLES, RATE_HZ, Speaker, audio
from tests.support.deployment import expected, finals_in, never_tried
from tests.support.pcm import SETTINGS, Samples, Story
from tests.support.waiting import eventually_async, lasting

TTL_S = 600
REPLICAS = 2
RESTART_S = 0.05
# Two and more sessions in each, so that they share streams, channels, wake-ups and script calls.
PARTITIONS = 2

# Each example is seconds of speech through the whole path; a run of all properties stays within a minute.
bounded = settings(
    max_examples=25, deadline=None,
    # Without shrinking: most failures show by a wait that ends after ten seconds, and few speakers are drawn anyway.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    # Sessions have ids of their own, so examples may share one Redis; a path takes longer to start than to use.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@dataclass
class Held:
    """A session that is over."""

    keys: SessionKeys
    samples: Samples
    first_messages: list[dict[str, Any]] = field(default_factory=list)
    """The first message of each of its connections."""
    received: list[dict[str, Any]] = field(default_factory=list)
    """The finals that its client received, by all its connections."""
    end: dict[str, Any] | None = None
    owed: list[ListedFinal] = field(default_factory=list)
    """The finals that its own audio alone gives, worked out without any server."""

    @property
    def run(self) -> RunKeys:
        """The live run's keys."""
        return self.keys.run()


Step = Callable[[Held], Awaitable[None]]
"""Something that a test does in the middle of a session."""


@dataclass
class Path:
    """Two edges, a worker and the projections."""

    server: Server
    log: RedisLog
    replicas: list[Replica]

    def client(self, replica: int, query: str = "") -> Client:
        """A client of one of the edges, that connects when entered."""
        return self.replicas[replica % len(self.replicas)].connect(query)

    async def hold(
        self, speaker: Speaker, first: int = 0, *,
        on_start: Step | None = None, said: Step | None = None, documented: bool = True,
    ) -> Held:
        """One client's session, beginning at replica `first`, until its document exists unless `documented` is false.

        Args:
            speaker: What it does.
            first: The number of its first replica.
            on_start: Awaited when its id is known.
            said: Awaited when everything was sent.
            documented: Whether its document will come.
        """
        frames = audio(speaker)
        pcm = b"".join(frame.tobytes() for frame in frames if not isinstance(frame, str))
        samples = np.frombuffer(pcm, np.int16).reshape(-1, speaker.channels)
        turns = _Turns(self, speaker, first)
        await turns.connect()
        held = Held(self.server.keys.of(turns.start["session_id"]), samples, turns.first_messages, turns.received)
        if on_start is not None:
            await on_start(held)
        await turns.speak(frames, pcm)
        if said is not None:
            await said(held)
        await turns.leave()
        held.end = turns.end
        if held.end is None:
            assert await self.log.seal(held.keys, "idle") is Code.OK
        if documented:
            await eventually_async(lambda: read_document(self.server, held.run))
        held.owed = await self._owed(held)
        return held

    async def feed(self, session: Held) -> list[dict[str, Any]]:
        """A session's real-time events, once its end is among them."""

        async def look() -> list[dict[str, Any]]:
            events = [msgspec.json.decode(body) for _, body in await read_feed(self.server, session.run, START)]
            return events if events and events[-1]["type"] == "session_end" else []

        return await eventually_async(look)

    async def listed(self, session: Held) -> list[ListedFinal]:
        """A session's List."""
        return [decode_final(entry) for entry in await self.server.execute("LRANGE", session.run.list, 0, -1)]

    async def _owed(self, held: Held) -> list[ListedFinal]:
        """What the session's settings make of the audio that its client sent, apart from all other sessions."""
        found = await self.log.read_position(held.keys)
        assert found is not None
        entries = (await self.log.read({held.keys: START}, max_bytes_each=1 << 26))[held.keys]
        assert b"".join(entry.pcm or b"" for entry in entries) == held.samples.tobytes()
        finalized = [
            entry.position.offset for entry in entries
            if entry.event is not None and isinstance(decode_audio_event(entry.event), Finalized)
        ]
        story = Story(held.samples, RATE_HZ, finalized=finalized, segmenter=found.start.segmenter)
        return [to_listed_final(final) for final in finals_in(expected(story, held.keys.session_id))]


class _Turns:
    """The connections of one session, one after the other."""

    def __init__(self, path: Path, speaker: Speaker, first: int) -> None:
        self._path = path
        self._next = first
        self._speaker = speaker
        self._frame_bytes = 2 * speaker.channels
        self._sent_bytes = 0
        self._token = ""
        self._client: Client
        self.start: dict[str, Any] = {}
        self.first_messages: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self.end: dict[str, Any] | None = None

    async def connect(self) -> None:
        """Begin, or continue at the next replica."""
        query = f"sample_rate={RATE_HZ}&channels={self._speaker.channels}"
        if self.start:
            known = max((final["utterance"] + 1 for final in self.received), default=0)
            session_id = self.start["session_id"]
            query = f"session_id={session_id}&resume_token={self._token}&next_utterance={known}"
        self._client = self._path.client(self._next, query)
        self._next += 1
        await self._client.__aenter__()
        self.start = await self._client.next()
        self.first_messages.append(self.start)
        self._token = self.start["resume_token"] or self._token
        self._sent_bytes = self.start["offset"] * self._frame_bytes

    async def speak(self, frames: Sequence[npt.NDArray[np.int16] | str], pcm: bytes) -> None:
        """Send everything, after a drop again what the log hasn't got."""
        said_bytes = 0
        for frame in frames:
            if isinstance(frame, str):
                await (self._drop() if frame == "drop" else self._client.send(frame))
            else:
                said_bytes += frame.nbytes
                await self._send(pcm[:said_bytes])
        await self._send(pcm)

    async def leave(self) -> None:
        """Stop and receive the end, or leave once everything is durable."""
        if self._speaker.stops:
            await self._client.send("stop")
            self.end = await self._client.until("session_end")
            assert await self._client.closed() == 1000
        elif self._sent_bytes > self.start["offset"] * self._frame_bytes:
            await self._client.acked(self._sent_bytes // self._frame_bytes)
        self.received += self._client.of("final")
        await self._client.__aexit__()

    async def _send(self, said: bytes) -> None:
        while self._sent_bytes < len(said):
            end = min(len(said), self._sent_bytes + FRAME_SAMPLES * self._frame_bytes)
            await self._client.send(said[self._sent_bytes : end])
            self._sent_bytes = end

    async def _drop(self) -> None:
        self._client.cut()
        self.received += self._client.of("final")
        await self.connect()


def all_projections() -> list[Projection]:
    """Those of the read models."""
    return [Lists(), Feeds(), Sessions(session_ttl_s=TTL_S), Status()]


@contextlib.asynccontextmanager
async def running(
    redis_url: str, *, partitions: int = PARTITIONS, projections: Sequence[Projection] | None = None
) -> AsyncIterator[Path]:
    """Runs a path on an empty Redis; stops it at the end."""
    async with contextlib.AsyncExitStack() as stack:
        server = await connect(redis_url, partitions=partitions)
        stack.push_async_callback(server.close)
        found: Sequence[Projection] = projections or all_projections()
        worker = Worker(
            server, WorkerSettings(session_ttl_s=TTL_S, tick_ms=5), MockRecogniser(), trial=never_tried
        )
        stack.push_async_callback(worker.stop)
        await worker.start()
        await stack.enter_async_context(
            _supervised(lambda: ProjectionRunner(server, found, "test", session_ttl_s=TTL_S))
        )
        replicas = [await stack.enter_async_context(_replica(redis_url, partitions)) for _ in range(REPLICAS)]
        yield Path(server, RedisLog(server, session_ttl_s=TTL_S), replicas)


@contextlib.asynccontextmanager
async def _supervised(make: Callable[[], ProjectionRunner]) -> AsyncIterator[None]:
    """Projections under a supervisor: when a defect ends them, they are started again."""

    async def supervise() -> None:
        while True:
            runner = make()
            await runner.start()
            try:
                await runner.wait()
            except (RuntimeError, TimeoutError):
                await lasting(RESTART_S)
            finally:
                await runner.stop()

    task = asyncio.create_task(supervise(), name="supervisor")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.asynccontextmanager
async def _replica(redis_url: str, partitions: int) -> AsyncIterator[Replica]:
    server = await connect(redis_url, partitions=partitions)
    log = RedisLog(server, session_ttl_s=TTL_S)
    chosen = EdgeSettings(name=str(uuid.uuid4()), engine="mock", segmenter=msgspec.to_builtins(SETTINGS))
    app = create_app(chosen, server, log)
    serving = edge_server(app, host="127.0.0.1", port=0)
    task = asyncio.create_task(serving.serve())
    await eventually_async(lambda: serving.started or task.done())
    running_ = Replica(app.state.core, serving, serving.servers[0].sockets[0].getsockname()[1], log, task)
    try:
        yield running_
    finally:
        await running_.leave()
        await server.close()
