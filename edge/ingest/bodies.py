"""Small bodies, read whole within a bound."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from edge import errors
from edge.errors import ApiError
from edge.server.lingering_close import mark_read


async def whole_body(request: Request, most_bytes: int, wait_s: float) -> bytes:
    """All of a request's body.

    Raises:
        ApiError: `invalid_request` if it has more than `most_bytes`, or doesn't come whole within `wait_s`.
    """
    body = b""
    try:
        async with asyncio.timeout(wait_s):
            async for piece in request.stream():
                body += piece
                if len(body) > most_bytes:
                    raise ApiError(errors.INVALID_REQUEST, f"the body has at most {most_bytes} bytes")
    except (ClientDisconnect, TimeoutError):
        raise ApiError(errors.INVALID_REQUEST, "the body did not come whole") from None
    mark_read(request)
    return body
