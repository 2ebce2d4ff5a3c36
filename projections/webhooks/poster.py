"""Makes one request to one receiver, and judges the answer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

import httpcore2

from eventlog.projection.webhook_targets import Target
from projections.webhooks.guarded_transport import (
    GuardedBackend,
    NotPublicError,
    Resolver,
    SystemResolver,
    UnresolvedError,
)
from projections.webhooks.signing import Headers

MOST_CONNECTIONS = 384
"""At once, to all receivers: a socket and some 100 kB each while a request lasts."""

MOST_IDLE = 64
"""Kept open for the next request: handshakes are most of a delivery's cost."""

IDLE_S = 15.0
"""Below what servers commonly keep an idle connection for, so that few are found closed."""

MOST_ANSWER_BYTES = 4096
"""Read of an answer's body, which is ignored, so that the connection can be used again."""

BODY_TIMEOUT_S = 1.0
"""Waited for that body; past it, the connection is closed."""

MOST_RETRY_AFTER_S = 300.0
"""Obeyed of a ``Retry-After``: a receiver that asks for more is asked again now and then."""

_TRANSIENT = frozenset({
    HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS,
})  # fmt: skip
"""Statuses below 500 that a later request may not get."""

_ERRORS = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError, ssl.SSLError)


class Answer(NamedTuple):
    """The answer to a request, or why none came.

    Attributes:
        status: Of the answer; None without one.
        reason: Why it isn't a success; without any text of the receiver.
        is_transient: Whether the same request may succeed later.
        retry_after_s: The pause that the receiver asks for, if it does.
    """

    status: int | None
    reason: str = ""
    is_transient: bool = False
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver has the event."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no event any more."""
        return self.status == HTTPStatus.GONE


class Poster:
    """A pool of connections; no proxies, no cookies, no redirects."""

    def __init__(
        self, *, private: bool, timeout_s: float, resolve: Resolver | None = None, tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Post within `timeout_s` to public addresses, or with `private` to any.

        Args:
            private: Whether addresses that aren't public are allowed.
            timeout_s: Bound of one request, from resolving the name to the answer's head.
            resolve: Resolves names; the system's resolver by default.
            tls: The trusted certificates; the system's by default.
            now: Unix time, for a ``Retry-After`` that is a date.
        """
        self._private = private
        self._timeout_s = timeout_s
        self._system = SystemResolver() if resolve is None else None
        self._resolve: Resolver = resolve or self._system or SystemResolver()
        self._tls = tls
        self._now = now
        self._pool: httpcore2.AsyncConnectionPool | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Make the pool, once."""
        async with self._starting:
            if self._pool is None:
                # A thread: the system's certificates are some 150 to parse, twenty milliseconds.
                tls = self._tls or await asyncio.to_thread(httpcore2.default_ssl_context)
                self._pool = httpcore2.AsyncConnectionPool(
                    ssl_context=tls, max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_IDLE,
                    keepalive_expiry=IDLE_S, network_backend=GuardedBackend(self._resolve, private=self._private),
                )  # fmt: skip

    async def stop(self) -> None:
        """Close all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()
        if self._system is not None:
            self._system.close()

    async def post(self, target: Target, headers: Headers, body: bytes) -> Answer:
        """Post once."""
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._send(target, headers, body)
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout_s:g} s", is_transient=True)
        except NotPublicError:
            return Answer(None, "its address isn't public")
        except UnresolvedError:
            return Answer(None, "its name has no address", is_transient=True)
        except _ERRORS as error:
            return Answer(None, f"no answer: {type(error).__name__}", is_transient=True)
        try:
            return self._judge(response)
        finally:
            await _discard(response)

    async def _send(self, target: Target, headers: Headers, body: bytes) -> httpcore2.Response:
        if self._pool is None:
            await self.start()
        assert self._pool is not None  # noqa: S101 - just made
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        given = [
            (b"host", target.authority.encode()), (b"user-agent", b"stenolog-webhooks"), *headers,
            (b"content-length", str(len(body)).encode()),
        ]  # fmt: skip
        # The connecting has a bound of its own, so that it can be shared among several addresses.
        extensions = {"timeout": {"connect": self._timeout_s}}
        request = httpcore2.Request("POST", url, headers=given, content=body, extensions=extensions)
        return await self._pool.handle_async_request(request)

    def _judge(self, response: httpcore2.Response) -> Answer:
        status = response.status
        is_transient = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT
        after_s = _retry_after_s(response.headers, self._now()) if is_transient else None
        return Answer(status, f"answered {status}", is_transient, after_s)


def _retry_after_s(headers: Headers, now_s: float) -> float | None:
    values = [value for name, value in headers if name.lower() == b"retry-after"]
    if not values:
        return None
    text = values[0].decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MOST_RETRY_AFTER_S)
    try:
        wait_s = parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, OverflowError, OSError):
        return None
    return min(max(wait_s, 0.0), MOST_RETRY_AFTER_S)


async def _discard(response: httpcore2.Response) -> None:
    """Discard an answer; its connection is used again if the body was short."""
    read = 0
    with contextlib.suppress(TimeoutError, *_ERRORS):
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async with contextlib.aclosing(response.aiter_stream()) as pieces:
                async for piece in pieces:
                    read += len(piece)
                    if read > MOST_ANSWER_BYTES:
                        break
    with contextlib.suppress(*_ERRORS):
        await response.aclose()
