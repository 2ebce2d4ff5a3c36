"""Flow control of requests: how far one may append ahead of the consumer of its audio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from edge import errors
from edge.errors import ApiError
from edge.session.uplink import INITIAL_CREDIT_BYTES, frame_bytes_of
from edge.session.upload_credit import POLL_S, ProgressTimeout, UploadCredit
from eventlog.events import CONTAINER, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.log import LogUnavailableError
from eventlog.readmodel.views import read_boundary
from eventlog.redis.redis_log import RedisLog

MIN_BACKLOG_S = 120
"""Audio that may be ahead in any case: a worker has nothing to commit before it has read some tens of seconds."""


class FlowControl:
    """Bounds the backlog of one stream, and makes its sender wait at the bound.

    The decoder of a container grants credit; samples may be ahead of the worker's checkpoint by a fixed amount.
    """

    def __init__(
        self, log: RedisLog, stream: SessionKeys, start: SessionStarted, *, ahead_bytes: int,
        on_wait: Callable[[], Awaitable[None]], is_over: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """Allow `ahead_bytes` before the consumer begins; of samples `MIN_BACKLOG_S` where that is more.

        `on_wait` is called periodically during a wait, and may raise the error that ends it; `is_over` says that
        nothing will consume the stream any more, which ends a wait as well.
        """
        self._log = log
        self._stream = stream
        self._frame_bytes = frame_bytes_of(start)
        self._credit = UploadCredit(log.server, ahead_bytes)
        self._is_container = start.encoding == CONTAINER
        self._backlog_samples = max(ahead_bytes // self._frame_bytes, MIN_BACKLOG_S * start.sample_rate_hz)
        self._limit_bytes = INITIAL_CREDIT_BYTES if self._is_container else self._backlog_samples * self._frame_bytes
        self._on_wait = on_wait
        self._is_over = is_over

    async def allowed_bytes(self, end_bytes: int, size_bytes: int, epoch: int) -> int:
        """Wait until bytes may be appended at `end_bytes`; return how many of `size_bytes` may be now.

        A wait renews the session under `epoch`, so that it does not end as idle.

        Raises:
            ApiError: `log_unavailable` if no worker lives that could consume more, or the error that `on_wait` raises.
        """
        if end_bytes + size_bytes <= self._limit_bytes:
            return size_bytes
        progress = ProgressTimeout()
        while not self._is_over():
            with contextlib.suppress(LogUnavailableError):  # appends report a Redis that stays away
                before, self._limit_bytes = self._limit_bytes, await self._read_limit()
                if self._limit_bytes > before:
                    progress.restart()
                if progress.is_touch_due():
                    await self._log.touch([(self._stream, epoch)])
            if self._limit_bytes > end_bytes:
                return min(size_bytes, self._limit_bytes - end_bytes)
            await self._on_wait()
            if progress.has_expired:
                if await self._credit.is_hopeless():
                    message = f"no worker takes the recording at the moment; durable up to offset {end_bytes}"
                    raise ApiError(errors.LOG_UNAVAILABLE, message)
                progress.restart()
            await asyncio.sleep(POLL_S)
        return size_bytes

    async def _read_limit(self) -> int:
        if self._is_container:
            [granted_bytes] = await self._credit.read([self._stream.session_id])
            return granted_bytes
        processed_samples = await read_boundary(self._log.server, self._stream.run())
        return (processed_samples + self._backlog_samples) * self._frame_bytes
