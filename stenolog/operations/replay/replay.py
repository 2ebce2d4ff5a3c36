"""One replay: a run of one name over many sessions, offered to workers bit by bit and watched to its end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from eventlog.keys import RunKeys
from eventlog.log import Code
from eventlog.redis.server import Server
from eventlog.work.replays import Progress, Replays
from stenolog.operations.replay.progress import Pace
from stenolog.operations.replay.retry import Retry
from stenolog.operations.replay.run_overrides import RunOverrides
from stenolog.operations.replay.sources import Replayable

AHEAD = 256
"""Runs that are started and not over: enough for 64 workers, so few that a look at all takes Redis a millisecond.

Each takes 6 kB of Redis before it has said anything.
"""

LOOK_S = 0.5
"""Between two looks at how far they are: a person sees it move."""

OFFERS_PER_ROUND = 64
"""Started between two looks; each is a script of 100 µs."""

REASONS = {
    Code.GONE: "its audio is not in the log: it has expired, or the session was deleted",
    Code.NOT_ENDED: "the session still goes on; replay it once it has ended",
    Code.TRIMMED: "the beginning of its audio was freed already, and no archive has it; "
                  "see STENOLOG_AUDIO_RETENTION_S for what is kept",
}  # fmt: skip
UNKNOWN_SESSION = "no such session: it never was, has expired, or was deleted"


class Outcome(NamedTuple):
    """What became of one session."""

    session_id: str
    status: Literal["done", "skipped", "started", "failed"]
    reason: str = ""
    audio_s: float = 0.0


class Order(NamedTuple):
    """What is to be done with each session."""

    run: str
    changes: RunOverrides
    queue: str


class _Session(msgspec.Struct):
    """A session on its way."""

    replayable: Replayable
    keys: RunKeys
    processed_samples: int = 0


class Replay:
    """Starts the runs and follows them."""

    def __init__(
        self, server: Server, order: Order, *, session_ttl_s: int, patience: Retry,
        on_outcome: Callable[[Outcome], None], on_pace: Callable[[Pace], None],
    ) -> None:  # fmt: skip
        """Work in `server`; whoever calls is told of each session that is over, and now and then of all together."""
        self._server = server
        self._order = order
        self._replays = Replays(server, session_ttl_s=session_ttl_s)
        self._patience = patience
        self._on_outcome = on_outcome
        self._on_pace = on_pace
        self._waiting: deque[Replayable] = deque()
        self._under_way: dict[str, _Session] = {}
        self._pace = Pace()

    async def run(
        self, sessions: Sequence[Replayable], *, begin: Callable[[], Awaitable[None]], wait: bool = True
    ) -> None:
        """Return when each session is over, or only started if nobody shall `wait`; may be cancelled anywhere.

        `begin` is awaited once there is something for workers to do.
        """
        self._waiting = deque(sessions)
        self._pace = Pace(sessions=len(sessions), total_s=sum(one.audio_s for one in sessions))
        has_begun = False
        while self._waiting or self._under_way:
            await self._offer(min(OFFERS_PER_ROUND, AHEAD - len(self._under_way)))
            if not wait:
                for one in list(self._under_way.values()):
                    self._over(one.replayable, "started")
                continue
            if self._under_way and not has_begun:
                has_begun = True
                await begin()
            await self._look()
            if self._under_way and (not self._waiting or len(self._under_way) >= AHEAD):
                await asyncio.sleep(LOOK_S)

    async def _offer(self, most: int) -> None:
        part = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        part = [one for one in part if not self._refused(one)]
        if not part:
            return
        runs = [self._server.keys.of(one.session_id).run(self._order.run) for one in part]
        there = await self._patience(lambda: self._replays.read_starts(runs))
        progress = await self._patience(lambda: self._replays.read_progress(runs))
        now_ms = await self._patience(self._server.time_ms)
        starts: list[Awaitable[None]] = []
        for one, keys, pinned, far in zip(part, runs, there, progress, strict=True):
            start = self._order.changes.over(one.start)
            if pinned is not None and pinned != start:
                self._over(one, "failed", f"there is a run {keys.run} of it with other settings; choose another --name")
            elif far.done:
                self._over(one, "skipped", f"run {keys.run} is finished already")
            else:
                starts.append(self._start(one, keys, now_ms))
        await asyncio.gather(*starts)

    def _refused(self, one: Replayable) -> bool:
        """Whether it can't be started at all, which is then told."""
        if one.code != Code.OK:
            self._over(one, "failed", REASONS[one.code])
            return True
        try:
            self._order.changes.over(one.start)
        except ValueError as error:
            self._over(one, "failed", f"these settings don't go with its own: {error}")
            return True
        return False

    async def _start(self, one: Replayable, keys: RunKeys, now_ms: int) -> None:
        start = self._order.changes.over(one.start)
        code = await self._patience(
            lambda: self._replays.start(
                keys, start, self._order.queue, total_samples=one.total_samples, source=one.source, now_ms=now_ms
            )
        )
        if code in {Code.OK, Code.EXISTS}:
            self._under_way[keys.member] = _Session(one, keys)
        else:
            self._over(one, "failed", REASONS[code])

    async def _look(self) -> None:
        runs = [one.keys for one in self._under_way.values()]
        # In this order: a run that ends between the two is done in the second.
        offered = await self._patience(lambda: self._replays.are_offered(runs, self._order.queue))
        progress = await self._patience(lambda: self._replays.read_progress(runs))
        for is_offered, far in zip(offered, progress, strict=True):
            await self._judge(self._under_way[far.keys.member], far, is_offered=is_offered)
        processed = sum(
            one.processed_samples / one.replayable.start.sample_rate_hz for one in self._under_way.values()
        )
        self._pace.at(time.monotonic(), processed)
        self._on_pace(self._pace)

    async def _judge(self, one: _Session, far: Progress, *, is_offered: bool) -> None:
        one.processed_samples = max(one.processed_samples, far.processed_samples)
        if not far.exists:
            self._over(one.replayable, "failed", REASONS[Code.GONE])
        elif far.done:
            self._over(one.replayable, "done")
        elif not is_offered:
            why = await self._patience(lambda: self._replays.read_quarantine_reason(one.keys))
            reason = f"set aside: {why or 'no reason is kept'}; `stenolog quarantine redrive` has it tried again"
            self._over(one.replayable, "failed", reason)

    def _over(self, one: Replayable, status: Literal["done", "skipped", "started", "failed"], reason: str = "") -> None:
        member = self._server.keys.of(one.session_id).run(self._order.run).member
        self._under_way.pop(member, None)
        self._pace.end(status, one.audio_s)
        self._on_outcome(Outcome(one.session_id, status, reason, one.audio_s))
