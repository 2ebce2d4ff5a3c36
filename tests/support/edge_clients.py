"""A client of event streams, on a plain socket, and sessions whose facts a test writes itself."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from eventlog.events import Fact, SessionStarted
from eventlog.keys import RunKeys
from eventlog.positions import OPENED, Position
from eventlog.redis.server import connect
from projections.feeds import Feeds
from projections.lists import Lists
from projections.runner import ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from tests.integration.edge.replicas import MESSAGE_S, PARTITIONS, RATE_HZ, TTL_S, Replica
from tests.integration.projections.facts import write


@dataclass
class SseBlock:
    """One block of an event stream."""

    kind: str = ""
    id: str = ""
    data: Any = None
    retry: int | None = None
    comment: str | None = None


@dataclass
class SseClient:
    """A client of one event stream."""

    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    status: int = 0
    answer: dict[str, str] = field(default_factory=dict)
    received: list[SseBlock] = field(default_factory=list)
    ended: bool = False
    """Whether the server has closed the stream in order."""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        headers = {"host": "localhost", **self.headers}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(MESSAGE_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.answer = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        self._text = ""
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Resets the connection."""
        self._writer.transport.abort()

    async def body(self) -> Any:  # noqa: ANN401 - JSON
        """The whole body of an answer other than a stream."""
        async with asyncio.timeout(MESSAGE_S):
            data = await self._reader.readexactly(int(self.answer["content-length"]))
        return json.loads(data)

    async def block(self) -> SseBlock | None:
        """The next block, comments and hints included; None at the end."""
        async with asyncio.timeout(MESSAGE_S):
            while "\n\n" not in self._text:
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                chunk = await self._reader.readexactly(size + 2)
                if size == 0:
                    self.ended = True
                    return None
                self._text += chunk[:-2].decode()
        text, _, self._text = self._text.partition("\n\n")
        return _block(text)

    async def some_bytes(self) -> None:
        """Returns once anything more has come, or nothing has for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await self._reader.read(1)

    async def next(self) -> SseBlock | None:
        """The next event; None at the end."""
        while (found := await self.block()) is not None:
            self.received.append(found)
            if found.kind:
                return found
        return None

    async def event(self) -> SseBlock:
        """The next event, of a stream that isn't over."""
        found = await self.next()
        assert found is not None, "the stream is over"
        return found

    async def all(self) -> list[SseBlock]:
        """Every event until the end."""
        events = []
        while (found := await self.next()) is not None:
            events.append(found)
        return events


def _block(text: str) -> SseBlock:
    block = SseBlock()
    for line in text.split("\n"):
        name, _, value = line.partition(": ")
        match name:
            case "":
                block.comment = value
            case "event":
                block.kind = value
            case "id":
                block.id = value
            case "data":
                block.data = json.loads(value)
            case "retry":
                block.retry = int(value)
            case _:
                raise AssertionError(line)
    return block


def status_of(edge: Replica, session_id: str, **headers: str) -> SseClient:
    """A client of a session's status stream."""
    return SseClient(edge.port, f"/api/v1/sessions/{session_id}/status/stream", _named(headers))


def transcript_of(edge: Replica, session_id: str, **headers: str) -> SseClient:
    """A client of a session's event stream."""
    return SseClient(edge.port, f"/v1/sessions/{session_id}/events", _named(headers))


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def open_session(edge: Replica, **start: Any) -> RunKeys:  # noqa: ANN401 - fields of the start event
    """A session without any worker; its facts are written by `write_facts`."""
    session_id = str(uuid.uuid4())
    keys = edge.core.server.keys.of(session_id)
    started = SessionStarted(session_id=session_id, sample_rate_hz=RATE_HZ, engine="mock", started_ms=1, **start)
    await edge.log.open(keys, started, "hash")
    return keys.run()


async def write_facts(edge: Replica, keys: RunKeys, facts: Sequence[tuple[Position, Fact]]) -> None:
    """Writes facts after the first, as a commit does."""
    await write(edge.core.server, keys, [fact for fact in facts if fact[0] != OPENED])


@contextlib.asynccontextmanager
async def projecting(redis_url: str) -> AsyncIterator[ProjectionRunner]:
    """Runs all projections, and nothing else."""
    server = await connect(redis_url, partitions=PARTITIONS)
    runner = ProjectionRunner(
        server, [Lists(), Feeds(), Sessions(session_ttl_s=TTL_S), Status()], "test", session_ttl_s=TTL_S
    )
    await runner.start()
    await runner.listening()
    try:
        yield runner
    finally:
        await runner.stop()
        await server.close()
