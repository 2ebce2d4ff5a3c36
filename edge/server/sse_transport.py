"""The transport of an event stream: taken over from Uvicorn where possible, ASGI everywhere else.

An idle listener that stays an ASGI call costs some 15 KiB: a task, the frames of a dozen coroutines, the request's
scope and headers, the parser. Once the answer has begun nothing of that is needed but the socket's transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from edge.server.header_limits import BoundedHeaders

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

STATE_KEY = "sse_transport"
"""Of the scope's state: the connection's protocol, if it can be taken over."""

CLOSE_TIMEOUT_S = 5.0
"""For a client to read the rest; then its socket is cut, or one that doesn't read would keep it forever."""

PEER_TIMEOUT_S = 30.0
"""A peer that confirms nothing for so long is gone: without this, a lost network would be noticed after a quarter of an
hour of retransmissions."""


class TransportObserver(Protocol):
    """The stream behind a transport."""

    def on_drained(self) -> None:
        """The client has read the data that had piled up."""
        ...

    def on_lost(self) -> None:
        """The client is gone, or has all data."""
        ...


class SseTransport(Protocol):
    """An event stream's connection to its client; no method waits."""

    def push(self, data: bytes) -> None:
        """Send `data` after the data pushed before."""
        ...

    @property
    def backlog_bytes(self) -> int:
        """Data pushed that the client's socket hasn't taken."""
        ...

    def finish(self) -> None:
        """End the stream; pushed data goes out first, unless that takes longer than `CLOSE_TIMEOUT_S`."""
        ...


class SseProtocol(BoundedHeaders):
    """Uvicorn's HTTP protocol, which lets an answer that has begun be taken over; then it is an `SseTransport`."""

    _observer: TransportObserver | None = None

    def on_message_begin(self) -> None:
        """See `HttpToolsProtocol`."""
        super().on_message_begin()
        self.scope["state"][STATE_KEY] = self

    def take_over(self, observer: TransportObserver, *, buffer_bytes: int) -> bool:
        """Drop everything but the transport; False if this answer can't be taken over."""
        cycle = self.cycle  # of the last request: another one may already wait in the pipeline
        if self.pipeline or cycle.disconnected or not cycle.chunked_encoding or self.transport.is_closing():
            return False
        cycle.disconnected = True  # so that Uvicorn doesn't mind that the application ends without an end of its answer
        self._observer = observer
        self.cycle = self.scope = self.headers = self.parser = None  # type: ignore[assignment]
        self.url = b""
        self.flow.resume_reading()
        self.transport.set_write_buffer_limits(high=buffer_bytes)
        if (peer := self.transport.get_extra_info("socket")) is not None:
            _bound(peer, buffer_bytes)
        return True

    def push(self, data: bytes) -> None:
        """See `SseTransport`."""
        if not self.transport.is_closing():
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    @property
    def backlog_bytes(self) -> int:
        """See `SseTransport`."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def finish(self) -> None:
        """See `SseTransport`."""
        if not self.transport.is_closing():
            self.transport.write(b"0\r\n\r\n")
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """See `HttpToolsProtocol`; once taken over, further data of the client is ignored."""
        if self._observer is None:
            super().data_received(data)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        if self._observer is not None:
            self._observer.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        if self.scope is not None:
            self.scope["state"].pop(STATE_KEY, None)  # a cycle that would wait for the garbage collector
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.on_lost()

    def shutdown(self) -> None:
        """See `HttpToolsProtocol`."""
        if self._observer is None:
            super().shutdown()
        else:
            self.finish()


def _bound(peer: socket.socket, buffer_bytes: int) -> None:
    """Have the kernel buffer no more than that either, and notice a peer that has vanished."""
    with contextlib.suppress(OSError):  # a socket of another kind takes no such option, and needs none
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(PEER_TIMEOUT_S * 1000))


class AsgiTransport:
    """An `SseTransport` over ASGI: a queue, and the task of the request that sends it."""

    def __init__(self, observer: TransportObserver) -> None:
        """Report to `observer`."""
        self._observer = observer
        self._queue: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._is_finished = False
        self.backlog_bytes = 0

    def push(self, data: bytes) -> None:
        """See `SseTransport`."""
        if not self._is_finished:
            self._queue.append(data)
            self.backlog_bytes += len(data)
            self._wake.set()

    def finish(self) -> None:
        """See `SseTransport`."""
        self._is_finished = True
        self._wake.set()

    async def run(self, receive: Receive, send: Send) -> None:
        """Send pushed data until the end, or until the client is gone."""
        tasks = {
            asyncio.create_task(_disconnected(receive), name="event stream's client"),
            asyncio.create_task(self._send_all(send), name="event stream"),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._observer.on_lost()

    async def _send_all(self, send: Send) -> None:
        while not self._is_finished:
            await self._wake.wait()
            self._wake.clear()
            await self._send_queued(send)
            self._observer.on_drained()
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await self._send_queued(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_queued(self, send: Send) -> None:
        while self._queue:
            data = self._queue.popleft()
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self.backlog_bytes -= len(data)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # an unexpected body
