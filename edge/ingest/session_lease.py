"""A session's reservation among those that may live at once, for as long as a request holds it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from edge import errors
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.session.reservations import Reservation
from eventlog.log import Code, LogUnavailableError
from eventlog.service import periodically


class SessionLease:
    """One session's lease; `is_lost` once another session took its place, after this process had stalled."""

    def __init__(self, core: EdgeCore, reservation: Reservation) -> None:
        """Lease the place of `reservation`."""
        self._core = core
        self._reservation = reservation
        self._period_s = core.settings.reservation_ttl_s / 3
        self._renewed_at = time.monotonic()
        self.is_lost = False

    async def renew(self) -> None:
        """Take the place, or hold it for another period.

        Raises:
            ApiError: `session_limit_exceeded` if the lease had expired and no place is free.
            LogUnavailableError: if Redis can't be reached.
        """
        [code] = await self._core.reservations.take([self._reservation])
        if code in {Code.FULL, Code.TENANT_FULL}:
            self.is_lost = True
            raise ApiError(
                errors.SESSION_LIMIT_EXCEEDED, "the session got no audio for so long that another one took its place"
            )

    async def renew_if_due(self) -> None:
        """Renew the lease of a request that waits, unless a period has not passed yet.

        Raises:
            ApiError: as `renew`.
        """
        if time.monotonic() - self._renewed_at < self._period_s:
            return
        self._renewed_at = time.monotonic()
        with contextlib.suppress(LogUnavailableError):
            await self.renew()

    def require_held(self) -> None:
        """Raise if the lease is lost.

        Raises:
            ApiError: `log_unavailable`.
        """
        if self.is_lost:
            raise ApiError(errors.LOG_UNAVAILABLE, "the session's place is lost; send the recording again")

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Renew the lease for the duration of the block, and free the place at its end."""
        renewing = asyncio.create_task(periodically(self._period_s, self._keep, name="session lease"))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await self._core.release(self._reservation)

    async def _keep(self) -> None:
        if not self.is_lost:
            with contextlib.suppress(ApiError):  # `is_lost` says it
                await self.renew()
