"""Edges that run for a test, and a client that talks to them over real sockets."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import websockets
from websockets.asyncio.client import ClientConnection

from edge.app import STREAM_PATH, create_app
from edge.auth.access import Authenticator
from edge.contract.operations import Operation
from edge.core import EdgeCore
from edge.server.server import EdgeServer, edge_server
from edge.settings import EdgeSettings
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import SYSTEM_TLS, Tls, connect
from tests.support.waiting import eventually_async

# Few, so that starting an edge and looking at all of them is quick.
PARTITIONS = 8
TTL_S = 600
# A client waits no longer than this for one message; a busy machine stalls for seconds.
MESSAGE_S = 30.0
RATE_HZ = 16_000
FRAME_SAMPLES = 1_600


def frame(number: int = 1, samples: int = FRAME_SAMPLES) -> bytes:
    """100 ms of mono audio that differs from frame to frame."""
    return (number % 30_000).to_bytes(2, "little") * samples


@dataclass
class Replica:
    """One running edge."""

    core: EdgeCore
    serving: EdgeServer
    port: int
    log: RedisLog
    task: "asyncio.Task[None]" = field(repr=False)

    @property
    def http(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Its HTTP operations."""
        app: Any = self.serving.config.app
        found: tuple[Operation, ...] = app.state.operations
        return found

    def connect(self, query: str = "", **options: Any) -> "Client":  # noqa: ANN401 - those of websockets
        """A client that connects when entered."""
        return Client(f"ws://127.0.0.1:{self.port}{STREAM_PATH}?{query}", **options)

    async def leave(self) -> None:
        """Shuts it down as SIGTERM does."""
        self.serving.should_exit = True
        await self.task


@contextlib.asynccontextmanager
async def replica(
    redis_url: str, *, timeout_s: float = 5.0, authenticator: Authenticator | None = None,
    now: Callable[[], float] = time.time, tls: Tls = SYSTEM_TLS, **settings: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[Replica]:  # fmt: skip
    """Runs an edge on a port of its own."""
    server = await connect(redis_url, partitions=PARTITIONS, timeout_s=timeout_s, tls=tls)
    log = RedisLog(server, session_ttl_s=TTL_S)
    edge_settings = EdgeSettings(**{"engine": "mock", "session_end_timeout_s": 10.0, **settings})
    app = create_app(edge_settings, server, log, authenticator, now)
    serving = edge_server(app, host="127.0.0.1", port=0)
    task = asyncio.create_task(serving.serve())
    await eventually_async(lambda: serving.started or task.done())
    port = serving.servers[0].sockets[0].getsockname()[1]
    running = Replica(app.state.core, serving, port, log, task)
    try:
        yield running
    finally:
        await running.leave()
        await server.close()


class Client:
    """A WebSocket client that keeps the messages that it receives."""

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 - those of websockets
        """Will connect to `url`."""
        self.url = url
        self._options = options
        self.received: list[dict[str, Any]] = []
        self.socket: ClientConnection

    async def __aenter__(self) -> Self:
        self.socket = await websockets.connect(
            self.url, ping_interval=None, max_size=None, open_timeout=MESSAGE_S, **self._options
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def next(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(MESSAGE_S):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        self.received.append(message)
        return message

    async def until(self, kind: str, **fields: object) -> dict[str, Any]:
        """The next message of this type and with these fields; those before it are kept in `received`."""
        while True:
            message = await self.next()
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message

    async def acked(self, offset: int) -> None:
        """Returns when audio up to `offset` is durable."""
        while not any(ack["offset"] >= offset for ack in self.of("ack")):
            await self.until("ack")

    async def send(self, data: bytes | str) -> None:
        """Sends a frame, or a control message by its type."""
        await self.socket.send(data if isinstance(data, bytes) else json.dumps({"type": data}))

    async def send_text(self, text: str) -> None:
        """Sends a text frame unchanged."""
        await self.socket.send(text)

    async def speak(self, frames: int, first: int = 1) -> None:
        """Sends frames one after the other."""
        for number in range(first, first + frames):
            await self.socket.send(frame(number))

    async def closed(self) -> int:
        """The code that the server closes with; earlier messages are kept in `received`."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await self.next()
        return self.socket.close_code or 0

    def cut(self) -> None:
        """Ends the connection as a broken network does."""
        self.socket.transport.abort()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type received so far."""
        return [message for message in self.received if message["type"] == kind]
