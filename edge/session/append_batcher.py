"""Appends the audio of all sockets, in one flush per tick."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable

from edge.session.append_source import AppendLog, AppendSource
from edge.session.back_pressure import CreditWaiters, MemoryThrottle
from edge.session.memory_watermarks import MemoryWatermarks
from edge.session.upload_credit import UploadCredit
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code, LogUnavailableError
from eventlog.log_retry import retry_pause_s
from eventlog.service import ServiceTasks
from eventlog.telemetry.metering import Timer

logger = logging.getLogger(__name__)

LONGEST_PAUSE_S = 1.0
"""So that sockets continue within a second of Redis's return."""

MAX_FLUSH_BYTES = 8_388_608
"""A quarter of a second of a thousand sessions, so that after a stall many go at once, and memory is bounded. A smaller
bound makes a busy machine fall behind permanently: a flush's cost is mostly its round trip."""

TOUCH_S = 1.0
"""Between two keepalives of one session that are passed on: idleness is counted in minutes."""

_UNKNOWN = Appended(Code.UNKNOWN)


class AppendBatcher:
    """Appends for all sessions, every `flush_ms` or as soon as `flush_bytes` wait; one flush at a time. A `Service`.

    After an outage the same entries are sent again, in order, with back-off, for as long as their sources stay.

    A defect that one session causes, in its uplink or in its connection, fails that connection alone with
    `internal_error`: its client resumes from the last ack, and the other sessions continue. Any other defect ends the
    batcher and by `wait` the edge: a process that appends nothing must not look alive.
    """

    def __init__(
        self, log: AppendLog, watermarks: MemoryWatermarks, credit: UploadCredit, *, flush_ms: float, flush_bytes: int,
        outage_timeout_s: float, observe_flush_s: Callable[[float], None],
    ) -> None:  # fmt: skip
        """Append to `log`, audio as far as `watermarks` and `credit` allow.

        The rest of a gone connection is dropped once Redis has been away for `outage_timeout_s`.

        `observe_flush_s` gets how long each flush took, seconds.
        """
        self.appends = 0
        self.appended_bytes = 0
        self._log = log
        self._outage_timeout_s = outage_timeout_s
        self._flush_s = flush_ms / 1000
        self._flush_bytes = flush_bytes
        self._observe_flush_s = observe_flush_s
        self._queue: deque[AppendSource] = deque()
        self._queued_bytes = 0
        self._touches: dict[SessionKeys, int] = {}
        self._wake = asyncio.Event()
        self._is_full = asyncio.Event()
        self._is_flushing = False
        self._failures = 0
        self._tasks = ServiceTasks()

        def requeue(source: AppendSource) -> None:
            self.enqueue(source, 0)

        self._credit_waiters = CreditWaiters(log, credit, requeue)
        self._watermarks = watermarks
        self._throttle = MemoryThrottle(watermarks, log, requeue, outage_timeout_s=outage_timeout_s)

    async def start(self) -> None:
        """Begin to flush."""
        self._tasks.spawn("append batcher", self._run())
        self._tasks.spawn("credit waiters", self._credit_waiters.run())
        self._tasks.spawn("memory throttle", self._throttle.run())

    async def wait(self) -> None:
        """Return once stopped; raise the defect that ended the batcher."""
        await self._tasks.wait()

    async def stop(self) -> None:
        """Stop flushing; audio that is not in the log by then stays unacked."""
        await self._tasks.stop()

    @property
    def pending_sessions(self) -> int:
        """Sessions that have something to append."""
        return len(self._queue)

    @property
    def throttled_sessions(self) -> int:
        """Sessions whose audio waits for memory."""
        return len(self._throttle)

    @property
    def is_idle(self) -> bool:
        """Whether everything queued has been appended."""
        return not self._queue and not self._is_flushing

    def enqueue(self, source: AppendSource, size: int) -> None:
        """Have the uplink of `source` flushed soon; `size` more bytes wait in it."""
        self._queued_bytes += size
        if self._queued_bytes >= self._flush_bytes:
            self._is_full.set()
        if not source.is_queued:
            source.is_queued = True
            self._queue.append(source)
            self._wake.set()

    def touch(self, source: AppendSource) -> None:
        """Pass a keepalive on, unless one was just passed on."""
        now = time.monotonic()
        if now - source.touched_at >= TOUCH_S:
            source.touched_at = now
            self._touches[source.uplink.keys] = source.uplink.epoch
            self._wake.set()

    async def _run(self) -> None:
        flush_at = 0.0
        while True:
            await self._wake.wait()
            # After a flush that took longer than a tick the next one starts at once.
            if not self._is_full.is_set() and (wait_s := flush_at + self._flush_s - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._is_full.wait()
            flush_at = time.monotonic()
            self._wake.clear()
            self._is_full.clear()
            self._queued_bytes = 0
            if self._touches:
                await self._send_touches()
            await self._flush()
            if self._failures:
                await asyncio.sleep(retry_pause_s(self._failures, LONGEST_PAUSE_S))

    async def _send_touches(self) -> None:
        touches, self._touches = self._touches, {}
        try:
            await self._log.touch(list(touches.items()))
        except LogUnavailableError:
            # The next keepalive comes; Redis's clock doesn't count its own absence against a session that speaks again.
            logger.info("keepalives not passed on", extra={"sessions": len(touches)})

    async def _flush(self) -> None:
        batch, appends = self._collect()
        if not appends:
            return
        self._is_flushing = True
        try:
            with Timer(self._observe_flush_s):
                answers = await self._log.append(appends)
        except LogUnavailableError as error:
            if not self._failures:
                logger.warning("log unavailable; holding audio back", extra={"error": error})
            self._failures += 1
            answers = [_UNKNOWN] * len(appends)
        else:
            if self._failures:
                logger.info("log available again")
            self._failures = 0
        self._is_flushing = False
        self.appends += len(appends)
        first = 0
        for source, count in batch:
            try:
                self._settle(source, answers[first : first + count])
            except Exception as error:  # noqa: BLE001 - of this session alone; `fail` logs it
                source.fail(error)
            first += count

    def _collect(self) -> tuple[list[tuple[AppendSource, int]], list[Append]]:
        """Return the sources whose turn it is, each with its count of appends, and all these appends."""
        batch: list[tuple[AppendSource, int]] = []
        appends: list[Append] = []
        size = 0
        while self._queue and size < MAX_FLUSH_BYTES:
            source = self._queue.popleft()
            source.is_queued = False
            if self._watermarks.is_any_critical and self._throttle.hold(source):
                continue
            try:
                mine = source.uplink.prepare()
            except Exception as error:  # noqa: BLE001 - of this session alone; `fail` logs it
                source.fail(error)
                continue
            if mine:
                batch.append((source, len(mine)))
                appends += mine
                for append in mine:
                    size += len(append.payload)
            elif source.uplink.is_out_of_credit:
                self._credit_waiters.add(source)
        self.appended_bytes += size
        if self._queue:
            self._wake.set()
            self._is_full.set()
        return batch, appends

    def _settle(self, source: AppendSource, answers: list[Appended]) -> None:
        uplink = source.uplink
        before = uplink.resent_entries, uplink.lost_samples
        has_moved = uplink.settle(answers)
        is_given_up = False
        if answers[-1].code is Code.UNKNOWN:
            now = time.monotonic()
            source.failing_since = source.failing_since or now
            is_given_up = source.is_abandoned and now - source.failing_since > self._outage_timeout_s
            source.observer.on_stalled(now - source.failing_since)
        else:
            source.failing_since = 0.0
            if (uplink.resent_entries, uplink.lost_samples) != before:  # else the log had a repeated entry already
                logger.warning(
                    "audio log truncated by failover; resending entries",
                    extra={
                        "session_id": uplink.keys.session_id, "resent_entries": uplink.resent_entries,
                        "lost_samples": uplink.lost_samples,
                    },
                )  # fmt: skip
        if uplink.unacked_bytes >= uplink.frame_bytes and uplink.refusal is None and not is_given_up:
            self.enqueue(source, 0)
        source.observer.on_settled(has_moved)
