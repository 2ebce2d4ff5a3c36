"""A request's body: read whole within a bound, or left unread by an early refusal and closed lingeringly."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge import errors
from edge.errors import ApiError

UNREAD_BYTES = 65_536
"""As much as the server itself has read by the time that a request is refused; it costs nothing any more."""

LINGER_BYTES, LINGER_S = 67_108_864, 3.0
"""Read and dropped after a refusal. A connection that is closed with something unread is reset, and a client that is
still sending may then never see the refusal; but no client needs to be read for ever."""


def mark_read(request: Request) -> None:
    """Note that the request's body has been read to its end."""
    request.state.is_read = True


def has_unread_body(request: Request) -> bool:
    """Whether much of the request's body may still be unread."""
    if getattr(request.state, "is_read", False):
        return False
    length = request.headers.get("content-length", "")
    return "transfer-encoding" in request.headers or (length.isdigit() and int(length[:20]) > UNREAD_BYTES)


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """Read a request's whole body.

    Raises:
        ApiError: `invalid_request` if it has more than `max_bytes`, or does not arrive whole within `timeout_s`.
    """
    body = b""
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                body += part
                if len(body) > max_bytes:
                    raise ApiError(errors.INVALID_REQUEST, f"the body has at most {max_bytes} bytes")
    except (ClientDisconnect, TimeoutError):
        raise ApiError(errors.INVALID_REQUEST, "the body did not arrive whole") from None
    mark_read(request)
    return body


class LingeringClose(Response):
    """The last response of a connection: sent whole at once, and over once the client has stopped sending."""

    def __init__(self, response: Response) -> None:
        """Send `response`."""
        super().__init__(response.body, response.status_code, {**response.headers, "connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send, read on for a while, end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await _drop(receive)
        await send({"type": "http.response.body", "body": b""})


async def _drop(receive: Receive) -> None:
    left = LINGER_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if not message.get("more_body"):  # the end, or the client is gone
            return
