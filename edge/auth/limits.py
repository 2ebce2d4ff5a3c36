"""Limits of requests: how many a tenant may make in a minute, and from pages of which origins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from edge import errors
from edge.errors import ApiError
from eventlog import keys
from eventlog.log import LogUnavailableError
from eventlog.redis.scripts import script
from eventlog.redis.server import Server

logger = logging.getLogger(__name__)

ANY_ORIGIN = "*"


WINDOW_S = 60

TTL_S = 2 * WINDOW_S
"""A window's count outlives it by as much as edges' clocks may differ."""


class RequestLimit:
    """A tenant's requests per minute, counted over all replicas in fixed windows."""

    def __init__(self, server: Server, *, per_minute: int, now: Callable[[], float] = time.time) -> None:
        """Allow `per_minute` by the clock `now` (Unix time); 0 allows any number."""
        self._server = server
        self._per_minute = per_minute
        self._now = now

    async def count(self, tenant_id: str) -> None:
        """Count one more request; while Redis cannot count, all pass.

        Raises:
            ApiError: `too_many_requests` if it exceeds the limit.
        """
        if not self._per_minute:
            return
        now = self._now()
        try:
            key = keys.request_count(tenant_id, int(now // WINDOW_S))
            counted = int(await self._server.run(script("increment_request_count"), [key], [TTL_S]))
        except LogUnavailableError as error:
            logger.debug("request not counted", extra={"error": error})
            return
        if counted > self._per_minute:
            wait_s = WINDOW_S - int(now % WINDOW_S)
            raise ApiError(
                errors.TOO_MANY_REQUESTS, f"more than {self._per_minute} requests in a minute; retry in {wait_s} s",
                retry_after_s=wait_s,
            )  # fmt: skip


def check_origin(connection: HTTPConnection, allowed: Collection[str]) -> None:
    """Refuse a page of another site, which a browser names in ``Origin``; other clients send no such header.

    Raises:
        ApiError: `invalid_origin` if it is neither the host's own nor allowed.
    """
    origin = connection.headers.get("origin")
    if origin is None or origin in allowed or ANY_ORIGIN in allowed:
        return
    if _authority(origin) != connection.headers.get("host", "").lower():
        raise ApiError(errors.INVALID_ORIGIN, "pages of this origin may not use this server")


def _authority(origin: str) -> str:
    try:
        # "null", which sandboxed pages send, has none.
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
