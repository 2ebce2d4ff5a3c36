"""Sessions of sockets that are read no further for now: while Redis is short of memory, or far ahead of a decoder."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from edge.session.append_source import AppendLog, AppendSource
from edge.session.memory_watermarks import MemoryWatermarks
from edge.session.upload_credit import POLL_S, ProgressTimeout, UploadCredit
from eventlog.log import LogUnavailableError

logger = logging.getLogger(__name__)

Requeue = Callable[[AppendSource], None]
"""Queues a source for the next flush again."""


class MemoryThrottle:
    """Holds sessions whose audio waits for memory; none of that audio is acked, so their sockets are read no further.

    Control events alone, the end among them, need next to nothing and pass.
    """

    def __init__(
        self, watermarks: MemoryWatermarks, log: AppendLog, requeue: Requeue, *, outage_timeout_s: float
    ) -> None:
        """Obey `watermarks`; report activity to `log`; drop a gone connection's rest after `outage_timeout_s`."""
        self._watermarks = watermarks
        self._log = log
        self._requeue = requeue
        self._outage_timeout_s = outage_timeout_s
        self._waiting: dict[AppendSource, tuple[float, ProgressTimeout]] = {}

    def __len__(self) -> int:
        """How many sessions wait."""
        return len(self._waiting)

    def hold(self, source: AppendSource) -> bool:
        """Whether `source` has to wait, while any node is past the critical watermark; if so, it is requeued later."""
        if not self._watermarks.is_critical(source.uplink.keys.partition) or not source.uplink.has_audio:
            return False
        if source not in self._waiting:
            self._waiting[source] = time.monotonic(), ProgressTimeout()
        return True

    async def run(self) -> None:
        """Requeue the sessions that may continue, and report to the others how long they wait, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._waiting:
                try:
                    await self._check()
                except LogUnavailableError as error:
                    logger.info("throttled sessions wait for the log", extra={"sessions": len(self), "error": error})

    async def _check(self) -> None:
        now, touches = time.monotonic(), []
        for source, (since, progress) in list(self._waiting.items()):
            if not self._watermarks.is_critical(source.uplink.keys.partition):
                del self._waiting[source]
                self._requeue(source)
            elif source.is_abandoned:
                if now - since > self._outage_timeout_s:
                    del self._waiting[source]
            else:
                _report_stall(source, now - since)
                if progress.is_touch_due():
                    touches.append((source.uplink.keys, source.uplink.epoch))
        if touches:
            await self._log.touch(touches)


class CreditWaiters:
    """Uploads that are as far ahead of their decoders as these allow; their sockets are read no further."""

    def __init__(self, log: AppendLog, credit: UploadCredit, requeue: Requeue) -> None:
        """Read `credit`, and report activity to `log`."""
        self._log = log
        self._credit = credit
        self._requeue = requeue
        self._waiting: dict[AppendSource, ProgressTimeout] = {}
        self._has_waiting = asyncio.Event()

    def add(self, source: AppendSource) -> None:
        """Requeue `source`, which may append nothing now, once it has more credit."""
        self._waiting.setdefault(source, ProgressTimeout())
        self._has_waiting.set()

    async def run(self) -> None:
        """Read the credit of all that wait, as long as any does, until cancelled."""
        while True:
            await self._has_waiting.wait()
            try:
                await self._check()
            except LogUnavailableError as error:
                logger.info("uploads wait for the log", extra={"uploads": len(self._waiting), "error": error})
            if not self._waiting:
                self._has_waiting.clear()
            await asyncio.sleep(POLL_S)

    async def _check(self) -> None:
        sources = list(self._waiting)
        granted = await self._credit.read(source.uplink.keys.session_id for source in sources)
        for source, credit_bytes in zip(sources, granted, strict=True):
            if credit_bytes > source.uplink.credit_bytes:
                source.uplink.credit_bytes = credit_bytes
                del self._waiting[source]
                self._requeue(source)
        # An abandoned session's client is gone: no activity is passed on for it.
        due = [source for source, one in self._waiting.items() if one.is_touch_due() and not source.is_abandoned]
        if due:
            await self._log.touch([(source.uplink.keys, source.uplink.epoch) for source in due])
        if any(one.has_expired for one in self._waiting.values()):
            await self._give_up()

    async def _give_up(self) -> None:
        is_hopeless = await self._credit.is_hopeless()
        for source, progress in list(self._waiting.items()):
            if not progress.has_expired:
                continue
            if is_hopeless:
                del self._waiting[source]
                _report_stall(source, math.inf)
            progress.restart()


def _report_stall(source: AppendSource, seconds: float) -> None:
    try:
        source.observer.on_stalled(seconds)
    except Exception as error:  # noqa: BLE001 - of this session alone; `fail` logs it
        source.fail(error)
