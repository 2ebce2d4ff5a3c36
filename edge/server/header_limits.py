"""Bounds on a request's headers, which Uvicorn's httptools protocol reads without any."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edge import errors
from edge.errors import ErrorCode

MAX_HEADER_BYTES = 65_536
"""As much as other servers take; a token has some thousand. The first piece of the headers isn't counted."""

HEADER_TIMEOUT_S = 10.0
"""For all headers to come, and for the first request of a connection: people's networks take a second at worst."""


def _refusal(status: HTTPStatus, error: ErrorCode, detail: str) -> bytes:
    """Build a whole answer, to be written past ASGI."""
    body = msgspec.json.encode(errors.problem(error, detail, status))
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: {errors.PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


_TOO_LARGE = _refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, errors.TOO_LARGE, f"headers have at most {MAX_HEADER_BYTES} bytes"
)
_MALFORMED = _refusal(HTTPStatus.BAD_REQUEST, errors.INVALID_REQUEST, "the request is not valid HTTP")


class BoundedHeaders(HttpToolsProtocol):
    """Uvicorn's HTTP protocol, which neither keeps nor waits for endless headers."""

    _header_bytes = 0
    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """See `HttpToolsProtocol`."""
        super().on_message_begin()
        self._await_headers()

    def on_headers_complete(self) -> None:
        """See `HttpToolsProtocol`."""
        self._stop_waiting()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        awaited = self._header_timer
        super().data_received(data)
        if self._header_timer is None or self._header_timer is not awaited:
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it is the same text for every request
        """See `HttpToolsProtocol`."""
        self.transport.write(_MALFORMED)
        self.transport.close()

    def _await_headers(self) -> None:
        self._stop_waiting()
        self._header_bytes = 0
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
