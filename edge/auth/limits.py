"""How often a tenant may ask, and from which pages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from edge import errors
from edge.auth import request_counts
from edge.errors import ApiError
from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server

logger = logging.getLogger(__name__)

ANY_ORIGIN = "*"


class RequestLimit:
    """A tenant's requests per minute, over all replicas."""

    def __init__(self, server: Server, *, per_minute: int, now: Callable[[], float] = time.time) -> None:
        """Allow `per_minute` by the clock `now` (Unix time); 0 allows any number."""
        self._server = server
        self._per_minute = per_minute
        self._now = now

    async def count(self, tenant_id: str) -> None:
        """Count one more request; while Redis can't count, all are let pass.

        Raises:
            ApiError: `too_many_requests` if it is one too many.
        """
        if not self._per_minute:
            return
        now = self._now()
        try:
            counted = await request_counts.count(self._server, tenant_id, now)
        except LogUnavailableError as error:
            logger.debug("a request was not counted: %s", type(error).__name__)
            return
        if counted > self._per_minute:
            wait_s = request_counts.WINDOW_S - int(now % request_counts.WINDOW_S)
            raise ApiError(
                errors.TOO_MANY_REQUESTS, f"more than {self._per_minute} requests in a minute; go on in {wait_s} s",
                retry_after_s=wait_s,
            )  # fmt: skip


def check_origin(connection: HTTPConnection, allowed: Collection[str]) -> None:
    """Refuse a page of another site, which a browser names in ``Origin``; other clients send none.

    Raises:
        ApiError: `invalid_origin` if it is neither the host's own nor allowed.
    """
    origin = connection.headers.get("origin")
    if origin is None or origin in allowed or ANY_ORIGIN in allowed:
        return
    if _authority(origin) != connection.headers.get("host", "").lower():
        raise ApiError(errors.INVALID_ORIGIN, "pages of this origin may not ask here")


def _authority(origin: str) -> str:
    try:
        # "null", which sandboxed pages send, has none.
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
