"""Holds the sender of bare samples back while they are far ahead of what is processed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from edge import errors
from edge.errors import ApiError
from edge.session.opener import Session
from edge.session.uplink import frame_bytes_of
from edge.session.upload_credit import POLL_S, ProgressTimeout, UploadCredit
from eventlog.events import CONTAINER
from eventlog.log import LogUnavailableError
from eventlog.readmodel.views import read_boundary

if TYPE_CHECKING:
    from edge.core import EdgeCore

LEAST_AHEAD_S = 120
"""Audio that may be ahead in any case: a worker has nothing to commit before it has heard some tens of seconds."""


class BacklogLimit:
    """How far one session's audio may be ahead of its checkpoint; containers are held by their decoder's credit."""

    def __init__(self, core: EdgeCore, session: Session, on_wait: Callable[[], Awaitable[None]]) -> None:
        """Allow what the settings say, or two minutes where that is more; `on_wait` may raise what ends a wait."""
        self._core = core
        self._session = session
        self._on_wait = on_wait
        self._credit = UploadCredit(core.server, core.settings.max_upload_ahead_bytes)
        self._frame_bytes = frame_bytes_of(session.start)
        self._most_samples = max(
            core.settings.max_upload_ahead_bytes // self._frame_bytes, LEAST_AHEAD_S * session.start.sample_rate_hz
        )
        self._is_bounded = session.start.encoding != CONTAINER
        self._done_samples = 0

    async def wait(self, end_bytes: int, is_over: Callable[[], bool]) -> None:
        """Return once audio up to `end_bytes` may be appended, or when `is_over` says that nobody wants it any more.

        Raises:
            ApiError: `log_unavailable` if nobody lives who would process any of it, or what `on_wait` raises.
        """
        if not self._is_bounded:
            return
        end_samples, still = end_bytes // self._frame_bytes, ProgressTimeout()
        while end_samples - self._done_samples > self._most_samples and not is_over():
            await self._on_wait()
            if await self._has_come_nearer(still):
                still = ProgressTimeout()
                continue
            if still.has_expired:
                if await self._credit.is_hopeless():
                    raise ApiError(errors.LOG_UNAVAILABLE, "no worker takes the recording now; send it again later")
                still.restart()
            await asyncio.sleep(POLL_S)

    async def _has_come_nearer(self, still: ProgressTimeout) -> bool:
        """Look how far the worker is; now and then say that the sender lives, who is made to wait."""
        before = self._done_samples
        with contextlib.suppress(LogUnavailableError):  # appends tell of a Redis that stays away
            self._done_samples = max(before, await read_boundary(self._core.server, self._session.keys.run()))
            if still.is_touch_due():
                await self._core.log.touch([(self._session.keys, self._session.epoch)])
        return self._done_samples > before
