"""Uvicorn as the edge needs it: the sans-IO WebSocket protocol, and a shutdown that drains the clients first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

from edge.server.fast_path import STATE_KEY, Tap
from edge.server.sse_transport import SseProtocol
from edge.settings import EdgeSettings

try:
    from websockets.speedups import apply_mask
except ImportError:  # a Python for which it has no wheel
    from websockets.utils import apply_mask

PING_INTERVAL_S = 20.0
"""Dead peers are noticed, and proxies that drop silent connections after 30 s and more are kept."""

PONG_TIMEOUT_S = 20.0

OVERSIZE_FACTOR = 4
"""Messages up to this many times the bound are read, so that their client gets an error; beyond, the close is 1009."""

BACKLOG = 2048
"""A thousand clients that reconnect at once must not be refused by the kernel."""

SHORT_BYTES = 125
"""Longest payload whose length stands in a frame's second byte (RFC 6455, 5.2)."""

UNFRAGMENTED_BINARY, MASKED_16_BIT, HEADER_BYTES = 0x82, 0xFE, 8
"""First and second byte of a whole binary frame that is masked and has a 16-bit length, and its header's size."""


class EdgeProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's ``websockets-sansio`` with a fast path for what comes ten times a second: audio in, acks out.

    A whole binary message goes straight to the application's `tap`, without queue, future and task switch (a third of
    the cost of a frame), unless an earlier message still waits in the queue. All else takes Uvicorn's own path.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        # Uvicorn logs the whole address at INFO, which may hold a resume token.
        self.logger = _quiet
        self._tap: Tap | None = None
        self.app_state = {**self.app_state, STATE_KEY: self}

    def tap(self, tap: Tap | None) -> None:
        """See `FastPath`; when `tap` answers False, no more is read until `resume`."""
        self._tap = tap

    def resume(self) -> None:
        """See `FastPath`."""
        if self.read_paused and self.queue.empty() and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def send_now(self, text: str) -> bool:
        """See `FastPath`."""
        if self.close_sent or self.disconnected or not self.writable.is_set() or self.transport.is_closing():
            return False
        payload = text.encode()
        if len(payload) > SHORT_BYTES or self.conn.state is not State.OPEN:
            return False
        # A short, unmasked text frame (RFC 6455, 5.2) made here: a quarter of the general path's cost.
        self.transport.write(b"\x81%c%b" % (len(payload), payload))
        return True

    async def run_asgi(self) -> None:
        """See `WebSocketsSansIOProtocol`; afterwards no reference leads back here."""
        await super().run_asgi()
        self._tap = None
        self.app_state = {}
        self.scope = None  # type: ignore[assignment]

    def abort(self) -> None:
        """See `FastPath`: messages that wait to be sent are dropped."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Give the tap the whole audio frames at the beginning of `data`, and the parser the rest.

        The tap gets every whole, single, masked binary frame of 126 to 65,535 bytes: RFC 6455, 5.2, for the one kind of
        frame that comes ten times a second and session. The general parser would be a third of such a frame's cost.
        """
        at, end, conn = 0, len(data), self.conn
        if (
            self._tap is not None
            and conn.current_size is None
            and conn.state is State.OPEN
            and not (conn.reader.buffer or self.close_sent)
            and self.queue.empty()
        ):
            view = memoryview(data)
            while end - at > HEADER_BYTES and data[at] == UNFRAGMENTED_BINARY and data[at + 1] == MASKED_16_BIT:
                size = data[at + 2] << 8 | data[at + 3]
                stop = at + HEADER_BYTES + size
                if self._tap is None or not SHORT_BYTES < size <= self.config.ws_max_size or stop > end:
                    break
                payload = apply_mask(view[at + HEADER_BYTES : stop], data[at + 4 : at + HEADER_BYTES])
                at = stop
                if not self._tap(payload) and not self.read_paused:
                    self.read_paused = True
                    self.transport.pause_reading()
        if at < end:
            super().data_received(data[at:] if at else data)

    def handle_bytes(self, event: Frame) -> None:
        """See `WebSocketsSansIOProtocol`."""
        if self._tap is None or not event.fin or self.close_sent or not self.queue.empty():
            super().handle_bytes(event)
        elif not self._tap(bytes(event.data)) and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()


_quiet = logging.getLogger("uvicorn.websockets")
_quiet.setLevel(logging.WARNING)


class UpgradingProtocol(SseProtocol):
    """Drops the references that lead back to it once a WebSocket protocol replaces it.

    Otherwise only the garbage collector would free it, in a rare full run: some 5 KiB a session until then.
    """

    def handle_websocket_upgrade(self) -> None:
        """See `HttpToolsProtocol`."""
        super().handle_websocket_upgrade()
        self.parser = self.scope = None  # type: ignore[assignment]


class Drainable(Protocol):
    """The part of an edge that its server uses; `edge.core.EdgeCore` has it."""

    settings: EdgeSettings

    async def drain(self) -> None:
        """Send every client elsewhere."""
        ...


class EdgeServer(uvicorn.Server):
    """A server that drains its connections before it closes them."""

    def __init__(self, config: uvicorn.Config, core: Drainable) -> None:
        """Serve by `config`, and drain `core` at the end."""
        super().__init__(config)
        self._core = core

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process: Uvicorn would take them, and die by them once it is done."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, drain the clients, close."""
        for server in self.servers:
            server.close()
        await self._core.drain()
        await super().shutdown(sockets)


def edge_server(app: Starlette, *, host: str, port: int, log_level: str = "warning") -> EdgeServer:
    """Build a server for an application of `edge.app.create_app`; run it with `serve`."""
    core: Drainable = app.state.core
    settings = core.settings
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=UpgradingProtocol,
        ws=EdgeProtocol,
        ws_per_message_deflate=False,
        ws_max_size=settings.max_frame_bytes * OVERSIZE_FACTOR,
        ws_ping_interval=PING_INTERVAL_S,
        # While Redis is away sockets are not read, and neither are their pongs.
        ws_ping_timeout=PONG_TIMEOUT_S + settings.redis_outage_timeout_s,
        backlog=BACKLOG,
        lifespan="on",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        log_config=None,
        log_level=log_level,
        timeout_graceful_shutdown=5,
    )
    return EdgeServer(config, core)
