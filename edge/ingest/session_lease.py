"""A session's place among those that may live at once, for as long as a request holds it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from edge import errors
from edge.errors import ApiError
from edge.session.reservations import Reservation
from eventlog.log import Code, LogUnavailableError

if TYPE_CHECKING:
    from edge.core import EdgeCore


class SessionLease:
    """One session's place; `is_lost` once it went to another session, while this process stood still."""

    def __init__(self, core: EdgeCore, reservation: Reservation) -> None:
        """Speak for the session of `reservation`."""
        self._core = core
        self._reservation = reservation
        self.is_lost = False

    async def renew(self) -> None:
        """Take the place, or hold it for another while.

        Raises:
            ApiError: `session_limit_exceeded` if it had lapsed and there is none.
            LogUnavailableError: if Redis can't be reached.
        """
        [code] = await self._core.reservations.take([self._reservation])
        if code in {Code.FULL, Code.TENANT_FULL}:
            self.is_lost = True
            raise ApiError(
                errors.SESSION_LIMIT_EXCEEDED, "the session was without audio for so long that its place is taken now"
            )

    def check(self) -> None:
        """Raise if the place is lost.

        Raises:
            ApiError: `log_unavailable`.
        """
        if self.is_lost:
            raise ApiError(errors.LOG_UNAVAILABLE, "the session's place is lost; send the recording again")

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold it meanwhile, and free it then."""
        renewing = asyncio.create_task(self._renewing(), name="place")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await self._core.release(self._reservation)

    async def _renewing(self) -> None:
        while not self.is_lost:
            await asyncio.sleep(self._core.settings.reservation_ttl_s / 3)
            with contextlib.suppress(LogUnavailableError, ApiError):  # the next try; or `is_lost` says it
                await self.renew()


class LeaseRenewal:
    """Renews a place for a request that is made to wait, whenever it is due."""

    def __init__(self, place: SessionLease, period_s: float) -> None:
        """Renew `place`, which is about to be taken, every `period_s`."""
        self._place = place
        self._period_s = period_s
        self._renewed_at = time.monotonic()

    async def renew(self) -> None:
        """Renew the place if it is time.

        Raises:
            ApiError: as `SessionLease.renew`.
        """
        if time.monotonic() - self._renewed_at < self._period_s:
            return
        self._renewed_at = time.monotonic()
        with contextlib.suppress(LogUnavailableError):
            await self._place.renew()
