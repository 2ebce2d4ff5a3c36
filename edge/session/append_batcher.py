"""The gatherer: appends of all sockets, in one flush per tick."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from edge.session.credit_waiters import CreditWaiters
from edge.session.memory_throttle import MemoryThrottle, MemoryWatermarks
from edge.session.uplink import Uplink
from edge.session.upload_credit import UploadCredit
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code, EventLog, LogUnavailableError
from eventlog.telemetry.metering import Timer

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
"""After a failed flush: a dropped connection is back at once."""

LONGEST_PAUSE_S = 1.0
"""So that sockets go on within a second of Redis's return."""

FLUSH_MOST_BYTES = 8_388_608
"""In one flush: a quarter of a second of a thousand sessions, so that after a stall many go at once, and memory is
bounded. A smaller bound makes a busy machine fall behind for good: a flush's cost is mostly its round trip."""

TOUCH_S = 1.0
"""Between two keepalives of one session that are passed on: idleness is counted in minutes."""


class Touching(Protocol):
    """What else a log of an edge can do: note a sign of life that is no audio."""

    async def touch(self, touches: list[tuple[SessionKeys, int]]) -> None:
        """Note a sign of life for each (session, epoch)."""
        ...


class AppendLog(EventLog, Touching, Protocol):
    """The log as the edge uses it."""


class AppendSource:
    """One session at the gatherer: its uplink, and whom to tell how it went."""

    __slots__ = ("abandoned", "failing_since", "queued", "settled", "stalled", "touched_at", "uplink")

    def __init__(self, uplink: Uplink, settled: Callable[[bool], None], stalled: Callable[[float], None]) -> None:
        """`settled(moved)` is called after each answer of the log, `stalled(seconds)` after each failure."""
        self.uplink = uplink
        self.settled = settled
        self.stalled = stalled
        self.queued = False
        self.abandoned = False
        """The connection is gone; what it left is still appended, unless Redis stays away."""
        self.failing_since = 0.0
        self.touched_at = 0.0

    def let_go(self) -> None:
        """Tell nobody any more, so that nothing leads back to whoever has it; what is left is still appended."""
        self.settled = self.stalled = _unheard


def _unheard(_: float) -> None: ...


class AppendBatcher:
    """Appends what all sessions have, every `flush_ms` or as soon as `flush_bytes` are there; one flush at a time.

    After a failure the same entries are sent again, in order, with back-off, for as long as their feeders stay.
    """

    def __init__(
        self, log: AppendLog, *, flush_ms: float, flush_bytes: int, gone_s: float,
        meter: Callable[[float], None] = lambda _: None, credit: UploadCredit | None = None,
        pressure: MemoryWatermarks | None = None,
    ) -> None:  # fmt: skip
        """Append to `log`; what a gone connection left is dropped once Redis has been away for `gone_s`.

        `meter` is told how long each flush took, seconds.
        """
        self._log = log
        self._gone_s = gone_s
        self._flushing = False
        self._flush_s = flush_ms / 1000
        self._flush_bytes = flush_bytes
        self._queue: deque[AppendSource] = deque()
        self._touches: dict[SessionKeys, int] = {}
        self._bytes = 0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self.flushes = 0
        self.appends = 0
        self.appended_bytes = 0
        self._meter = meter
        self._held = CreditWaiters(log, credit, lambda feeder: self.enqueue(feeder, 0)) if credit is not None else None
        self._pressed: MemoryThrottle | None = None
        if pressure is not None:
            self._pressed = MemoryThrottle(pressure, log, lambda feeder: self.enqueue(feeder, 0), gone_s=gone_s)
        self._waits: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to flush."""
        self._task = asyncio.create_task(self._run(), name="gatherer")
        if self._held is not None:
            self._waits.append(asyncio.create_task(self._held.run(), name="held uploads"))
        if self._pressed is not None:
            self._waits.append(asyncio.create_task(self._pressed.run(), name="short of memory"))

    async def stop(self) -> None:
        """Stop flushing; what is not in the log by then stays unacked."""
        tasks = [task for task in (self._task, *self._waits) if task is not None]
        self._task, self._waits = None, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """Sessions that have something to append."""
        return len(self._queue)

    @property
    def pressed(self) -> int:
        """Sessions whose audio waits for memory."""
        return len(self._pressed) if self._pressed is not None else 0

    @property
    def idle(self) -> bool:
        """Everything that was to be appended has been."""
        return not self._queue and not self._flushing

    def enqueue(self, feeder: AppendSource, size: int) -> None:
        """Have the feeder's uplink flushed soon; `size` more bytes are waiting."""
        self._bytes += size
        if self._bytes >= self._flush_bytes:
            self._full.set()
        if not feeder.queued:
            feeder.queued = True
            self._queue.append(feeder)
            self._wake.set()

    def touch(self, feeder: AppendSource) -> None:
        """Pass a keepalive on, unless one was just passed on."""
        now = time.monotonic()
        if now - feeder.touched_at >= TOUCH_S:
            feeder.touched_at = now
            self._touches[feeder.uplink.keys] = feeder.uplink.epoch
            self._wake.set()

    async def _run(self) -> None:
        flush_at = 0.0
        while True:
            await self._wake.wait()
            # After a flush that took longer than a tick the next one starts at once.
            if not self._full.is_set() and (wait_s := flush_at + self._flush_s - time.monotonic()) > 0:
                await _either(self._full, wait_s)
            flush_at = time.monotonic()
            self._wake.clear()
            self._full.clear()
            self._bytes = 0
            await self._send_touches()
            await self._flush()
            if self._failures:
                await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1)))

    async def _send_touches(self) -> None:
        if not self._touches:
            return
        touches, self._touches = self._touches, {}
        try:
            await self._log.touch(list(touches.items()))
        except LogUnavailableError:
            # The next keepalive comes; Redis's clock doesn't count its own absence against a session that speaks again.
            logger.info("keepalives not passed on", extra={"sessions": len(touches)})

    async def _flush(self) -> None:
        feeders, counts, appends = self._gather()
        if not appends:
            return
        try:
            self._flushing = True
            with Timer(self._meter):
                answers = await self._log.append(appends)
        except LogUnavailableError as error:
            if not self._failures:
                logger.warning("log unavailable, holding back", extra={"error": error})
            self._failures += 1
            answers = [Appended(Code.UNKNOWN)] * len(appends)
        except Exception:  # one defect must not end the appends of all; connections give up after their bound
            logger.exception("appends failed by a defect")
            self._failures += 1
            answers = [Appended(Code.UNKNOWN)] * len(appends)
        else:
            if self._failures:
                logger.info("log available again")
            self._failures = 0
        self._flushing = False
        self.flushes += 1
        self.appends += len(appends)
        first = 0
        for feeder, count in zip(feeders, counts, strict=True):
            self._settle(feeder, answers[first : first + count])
            first += count

    def _gather(self) -> tuple[list[AppendSource], list[int], list[Append]]:
        feeders: list[AppendSource] = []
        counts: list[int] = []
        appends: list[Append] = []
        size = 0
        while self._queue and size < FLUSH_MOST_BYTES:
            feeder = self._queue.popleft()
            feeder.queued = False
            if self._pressed is not None and self._pressed.keeps(feeder):
                continue
            mine = feeder.uplink.prepare()
            if not mine and self._held is not None and feeder.uplink.is_held:
                self._held.add(feeder)
            if mine:
                feeders.append(feeder)
                counts.append(len(mine))
                appends += mine
                size += sum(len(append.payload) for append in mine)
        self.appended_bytes += size
        if self._queue:
            self._wake.set()
            self._full.set()
        return feeders, counts, appends

    def _settle(self, feeder: AppendSource, answers: list[Appended]) -> None:
        uplink = feeder.uplink
        moved = uplink.settle(answers)
        if answers[-1].code is Code.UNKNOWN:
            now = time.monotonic()
            feeder.failing_since = feeder.failing_since or now
            feeder.stalled(now - feeder.failing_since)
        else:
            feeder.failing_since = 0.0
        if answers[-1].code is Code.MISPLACED:
            logger.warning(
                "the log went back",
                extra={
                    "session_id": uplink.keys.session_id,
                    "refilled_entries": uplink.refilled,
                    "lost_samples": uplink.lost_samples,
                },
            )
        given_up = feeder.abandoned and feeder.failing_since and time.monotonic() - feeder.failing_since > self._gone_s
        if uplink.outcome is Code.OK and not uplink.idle and not given_up:
            self.enqueue(feeder, 0)
        feeder.settled(moved)


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
