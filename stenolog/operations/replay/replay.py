"""One replay: a run of one name over many sessions, offered to workers some at a time and followed to its end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

import msgspec

from eventlog.keys import RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.redis.server import Server
from eventlog.work.replays import Progress, Replays
from stenolog.operations.replay.progress import Pace
from stenolog.operations.replay.run_overrides import RunOverrides
from stenolog.operations.replay.sources import Replayable

MAX_RUNNING = 256
"""Runs that are started and not over: enough for 64 workers, so few that reading all takes Redis a millisecond.

Each takes 6 kB of Redis before its first fact.
"""

POLL_PERIOD_S = 0.5
"""Between two readings of their progress: a person sees it move."""

STARTS_PER_POLL = 64
"""Started between two readings; each is a script of 100 µs."""

RETRY_S = 0.5
"""Between two tries: a restart of Redis takes seconds, and no client waits for the answer."""

Value = TypeVar("Value")

REASONS = {
    Code.GONE: "its audio is not in the log: it has expired, or the session was deleted",
    Code.NOT_ENDED: "the session is still open; replay it once it has ended",
    Code.TRIMMED: "the beginning of its audio was freed already, and no archive has it; "
                  "STENOLOG_AUDIO_RETENTION_S says how much is kept",
}  # fmt: skip
UNKNOWN_SESSION = "no such session: it never was, has expired, or was deleted"


class Outcome(NamedTuple):
    """The outcome of one session."""

    session_id: str
    status: Literal["done", "skipped", "started", "failed"]
    reason: str = ""
    audio_s: float = 0.0


class ReplayPlan(NamedTuple):
    """The run to make of each session."""

    run: str
    overrides: RunOverrides
    queue: str


class _Session(msgspec.Struct):
    """A session whose run is started and not over."""

    replayable: Replayable
    keys: RunKeys
    processed_samples: int = 0


class Retry:
    """Repeats a call for as long as Redis or an archive can't be reached, or can't take writes."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """`report` gets a line when the waiting begins, and one when it is over."""
        self._report = report
        self._is_waiting = False

    async def __call__(self, call: Callable[[], Awaitable[Value]]) -> Value:
        """Return the answer of `call`, however long that takes; it must be harmless to repeat."""
        while True:
            try:
                answer = await call()
            except LogUnavailableError as error:
                if not self._is_waiting:
                    self._report(f"waiting, and trying again: {error}")
                self._is_waiting = True
                await asyncio.sleep(RETRY_S)
                continue
            if self._is_waiting:
                self._report("available again")
                self._is_waiting = False
            return answer


class Replay:
    """Starts the runs and follows them."""

    def __init__(
        self, server: Server, plan: ReplayPlan, *, session_ttl_s: int, retry: Retry,
        on_outcome: Callable[[Outcome], None], on_pace: Callable[[Pace], None],
    ) -> None:  # fmt: skip
        """Work in `server`; report each session that is over, and regularly the progress of all."""
        self._server = server
        self._plan = plan
        self._replays = Replays(server, session_ttl_s=session_ttl_s)
        self._retry = retry
        self._on_outcome = on_outcome
        self._on_pace = on_pace
        self._waiting: deque[Replayable] = deque()
        self._running: dict[str, _Session] = {}
        self._pace = Pace()

    async def run(
        self, sessions: Sequence[Replayable], *, begin: Callable[[], Awaitable[None]], wait: bool = True
    ) -> None:
        """Return when each session is over, or without `wait` only started; may be cancelled anywhere.

        `begin` is awaited once workers have something to do.
        """
        self._waiting = deque(sessions)
        self._pace = Pace(sessions=len(sessions), total_s=sum(one.audio_s for one in sessions))
        has_started = False
        while self._waiting or self._running:
            await self._start_some(min(STARTS_PER_POLL, MAX_RUNNING - len(self._running)))
            if not wait:
                for one in list(self._running.values()):
                    self._end(one.replayable, "started")
                continue
            if self._running and not has_started:
                has_started = True
                await begin()
            await self._poll()
            if self._running and (not self._waiting or len(self._running) >= MAX_RUNNING):
                await asyncio.sleep(POLL_PERIOD_S)

    async def _start_some(self, limit: int) -> None:
        part = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        part = [one for one in part if not self._refused(one)]
        if not part:
            return
        runs = [self._server.keys.of(one.session_id).run(self._plan.run) for one in part]
        pinned_starts = await self._retry(lambda: self._replays.read_starts(runs))
        progress = await self._retry(lambda: self._replays.read_progress(runs))
        now_ms = await self._retry(self._server.time_ms)
        starts: list[Awaitable[None]] = []
        for one, keys, pinned, current in zip(part, runs, pinned_starts, progress, strict=True):
            start = self._plan.overrides.over(one.start)
            if pinned is not None and pinned != start:
                self._end(one, "failed", f"it has a run {keys.run} with other settings; choose another --name")
            elif current.done:
                self._end(one, "skipped", f"run {keys.run} is finished already")
            else:
                starts.append(self._start(one, keys, now_ms))
        await asyncio.gather(*starts)

    def _refused(self, session: Replayable) -> bool:
        """Whether it can't be started at all; reports the reason."""
        if session.code != Code.OK:
            self._end(session, "failed", REASONS[session.code])
            return True
        try:
            self._plan.overrides.over(session.start)
        except ValueError as error:
            self._end(session, "failed", f"these settings don't go with its own: {error}")
            return True
        return False

    async def _start(self, session: Replayable, keys: RunKeys, now_ms: int) -> None:
        start = self._plan.overrides.over(session.start)
        code = await self._retry(
            lambda: self._replays.start(
                keys, start, self._plan.queue, total_samples=session.total_samples, source=session.source, now_ms=now_ms
            )
        )
        if code in {Code.OK, Code.EXISTS}:
            self._running[keys.member] = _Session(session, keys)
        else:
            self._end(session, "failed", REASONS[code])

    async def _poll(self) -> None:
        runs = [one.keys for one in self._running.values()]
        # In this order: a run that ends between the two is done in the second.
        offered = await self._retry(lambda: self._replays.are_offered(runs, self._plan.queue))
        progress = await self._retry(lambda: self._replays.read_progress(runs))
        for is_offered, current in zip(offered, progress, strict=True):
            await self._update(self._running[current.keys.member], current, is_offered=is_offered)
        processed = sum(
            one.processed_samples / one.replayable.start.sample_rate_hz for one in self._running.values()
        )
        self._pace.at(time.monotonic(), processed)
        self._on_pace(self._pace)

    async def _update(self, session: _Session, current: Progress, *, is_offered: bool) -> None:
        session.processed_samples = max(session.processed_samples, current.processed_samples)
        if not current.exists:
            self._end(session.replayable, "failed", REASONS[Code.GONE])
        elif current.done:
            self._end(session.replayable, "done")
        elif not is_offered:
            why = await self._retry(lambda: self._replays.read_quarantine_reason(session.keys))
            reason = f"quarantined: {why or 'no reason is kept'}; `stenolog quarantine redrive` retries it"
            self._end(session.replayable, "failed", reason)

    def _end(
        self, session: Replayable, status: Literal["done", "skipped", "started", "failed"], reason: str = ""
    ) -> None:
        member = self._server.keys.of(session.session_id).run(self._plan.run).member
        self._running.pop(member, None)
        self._pace.end(status, session.audio_s)
        self._on_outcome(Outcome(session.session_id, status, reason, session.audio_s))
