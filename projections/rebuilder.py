"""Rebuilds read models from the facts while sessions continue: in shadow copies, which are swapped for the old ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from eventlog.keys import RunKeys
from eventlog.log import Code, LogFullError, LogUnavailableError
from eventlog.projection.projection_log import Apply, ProjectionLog, RunFacts
from eventlog.projection.rebuild import COPY_TTL_S, PARTS, Rebuilds, RebuiltKeys, Swapped
from eventlog.redis.server import Server
from projections.projection import Plan, Projection, plan
from projections.rebuild_check import Content, compare, read_contents
from projections.shadow_copy import ShadowCopy

RUNS_AT_ONCE = 256
"""Copies under way: each round is some four round trips, which most runs need only once."""

FACTS_AT_ONCE = 4096
"""In one round: some 5 ms of Redis's time, in several calls, so that live traffic hardly notices."""

MOST_FACTS = 1000
"""Of one run in one round: Lua takes no more than some 8,000 values in one command."""

COMPARED_AT_ONCE = 16
"""Runs whose contents are read to be compared: at worst a long List and a full feed each, some megabytes."""

MOST_CHASES = 200
"""A copy that has not caught up after so many rounds, some milliseconds each, won't."""

MOST_CONTESTS = 20
"""Another rebuild is at the same run: the one that finds that out rests, each time about twice as long."""

FIRST_REST_S = 0.05
"""Most copies are in place by then."""

LONGEST_REST_S = 10.0
"""A very long run takes that."""

GIVE_UP_S = 30.0
"""Redis may be away for this long: a restart or a failover takes less."""

LAST_ROUND_S = 2.0
"""The longest wait of Ctrl-C for a round, which takes milliseconds where Redis answers."""

PAUSE_S = 0.25
"""Between two tries while Redis is away."""

COLLECT_AFTER = 100_000
"""Objects after which Python looks for cycles: facts and words by the thousand are made, and no cycle among them, so
with its own 700 it spends a sixth of the time looking."""


def relax_garbage_collection() -> None:
    """Have this process, which does nothing but rebuild, look for garbage rarely."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


@dataclass
class Report:
    """The result of a rebuild so far."""

    runs: int = 0
    """Rebuilt and in place."""
    events: int = 0
    """Facts in them."""
    gone: int = 0
    """Runs that were erased or expired meanwhile."""
    behind: int = 0
    """Runs whose old read model was not as far as the facts, or missing."""
    dead_lettered: int = 0
    """Facts that could not be applied; they are in the dead letters."""
    dead_letters_settled: int = 0
    """Old dead letters that went with their cause."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(run, why): those that are unchanged."""
    differing: list[tuple[str, str]] = field(default_factory=list)
    """(run, part): parts that differed from the facts; only known with `verify`."""
    checksum_before: int = 0
    checksum_after: int = 0
    """Over all runs, whatever their order: the sum of each part's SHA-256."""

    @property
    def seen(self) -> int:
        """Runs that are done with, one way or another."""
        return self.runs + self.gone + len(self.failed)


class Rebuilder:
    """Rebuilds one projection's read models of any number of runs."""

    def __init__(
        self, projection: Projection, server: Server, *, consumer: str, session_ttl_s: int, verify: bool = False,
        is_complete: bool = False, dead_letter_ids: Mapping[str, Sequence[str]] | None = None,
    ) -> None:  # fmt: skip
        """Rebuild the read models of `projection`.

        Args:
            projection: One that no other task uses.
            server: Where.
            consumer: Named in dead letters.
            session_ttl_s: Of keys that have none.
            verify: Compare each old read model with the one that takes its place.
            is_complete: All runs are rebuilt, so keys that are no listings may be dropped, and runs may go meanwhile.
            dead_letter_ids: Entry ids of the projection's dead letters by run, settled by the rebuild.
        """
        self.report = Report()
        self._projection = projection
        self._server = server
        # It writes copies, which are needed for no longer than the rebuild takes.
        self._log = ProjectionLog(server, projection.name, consumer, session_ttl_s=COPY_TTL_S)
        self._rebuilds = Rebuilds(server, projection.name, session_ttl_s=session_ttl_s)
        self._verify = verify
        self._is_complete = is_complete
        self._dead_letter_ids = dead_letter_ids or {}
        self._copies: dict[str, ShadowCopy] = {}
        self._has_progressed = False
        self._parts = PARTS[projection.name]

    async def run(self, runs: AsyncIterator[RunKeys], on_progress: Callable[[Report], None]) -> Report:
        """Rebuild `runs`, each once; a run whose copy isn't in place at an error or a cancellation is unchanged.

        Raises:
            LogUnavailableError: if Redis can't be reached for long, or has no memory for copies.
        """
        task = asyncio.current_task()
        cancellations = task.cancelling() if task else 0
        try:
            while await self._fill(runs):
                await self._shielded_round()
                on_progress(self.report)
                await asyncio.sleep(0)  # where a cancellation that came between two calls takes effect
                # One that came with the end of a call is forgotten by the client library.
                if task and task.cancelling() > cancellations:
                    raise asyncio.CancelledError
        finally:
            await self._drop_copies()
        return self.report

    async def _drop_copies(self) -> None:
        if self._copies:
            with contextlib.suppress(LogUnavailableError):  # they expire
                await self._rebuilds.drop([copy.keys for copy in self._copies.values()])

    async def _fill(self, runs: AsyncIterator[RunKeys]) -> bool:
        """Take runs until `RUNS_AT_ONCE` are under way; returns whether any is."""
        while len(self._copies) < RUNS_AT_ONCE:
            run = await anext(runs, None)
            if run is None:
                break
            self._copies[run.member] = ShadowCopy(RebuiltKeys(run), self._projection.name)
        return bool(self._copies)

    async def _shielded_round(self) -> None:
        """A round that a cancellation waits for, or calls that Redis hasn't read would come after copies are gone."""
        task = asyncio.create_task(self._retried_round())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=LAST_ROUND_S)
            task.cancel()
            raise

    async def _retried_round(self) -> None:
        """A round, tried again while Redis is away."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + GIVE_UP_S
        while True:
            self._has_progressed = False
            try:
                await self._round()
            except LogFullError:
                raise
            except LogUnavailableError:
                if clock() > deadline:
                    raise
            if self._has_progressed:
                return
            if clock() > deadline:
                raise LogUnavailableError("a part of Redis can't be reached")
            await asyncio.sleep(PAUSE_S)

    async def _round(self) -> None:
        """One step with each copy."""
        await self._begin(await self._rested())
        started = [copy for copy in self._copies.values() if copy.is_started and copy.has_more]
        limit = min(MOST_FACTS, max(1, FACTS_AT_ONCE // max(1, len(started))))
        found: list[tuple[ShadowCopy, RunFacts]] = []
        for pulled in await self._log.pull([copy.keys for copy in started], limit=limit):
            copy = self._copies[pulled.keys.member]
            if self._is_expected(copy, pulled):
                copy.has_more = pulled.has_more
                if not pulled.is_empty:
                    found.append((copy, pulled))
        await self._apply(found)
        ready = [copy for copy in self._copies.values() if copy.is_started and not copy.has_more]
        each = COMPARED_AT_ONCE if self._verify else RUNS_AT_ONCE
        for first in range(0, len(ready), each):
            await self._swap(ready[first : first + each])

    async def _rested(self) -> list[ShadowCopy]:
        """Copies that are to begin; where all rest, those that do so the shortest, once they have."""
        clock = asyncio.get_running_loop().time
        waiting = [copy for copy in self._copies.values() if not copy.is_started]
        if len(waiting) == len(self._copies):
            first = min(copy.rests_until for copy in waiting)
            await asyncio.sleep(max(0.0, first - clock()))
            return [copy for copy in waiting if copy.rests_until <= max(first, clock())]
        return [copy for copy in waiting if copy.rests_until <= clock()]

    async def _begin(self, copies: Sequence[ShadowCopy]) -> None:
        for copy, code in zip(copies, await self._rebuilds.begin([copy.keys for copy in copies]), strict=True):
            self._has_progressed |= code != Code.UNKNOWN
            copy.is_started = code == Code.OK
            if code == Code.GONE:
                self._drop_gone(copy)

    def _is_expected(self, copy: ShadowCopy, pulled: RunFacts) -> bool:
        """Whether these facts follow those in the copy; if not, another rebuild has written to it."""
        if pulled.unreadable:
            self._fail(copy, f"the facts can't be read: {pulled.unreadable}")
            return False
        if pulled.after != copy.position:
            self._rest(copy)
            return False
        return True

    async def _apply(self, found: Sequence[tuple[ShadowCopy, RunFacts]]) -> None:
        commands = [list(self._projection.reads(pulled)) for _, pulled in found]
        answers = iter(await self._server.execute_many([one for each in commands for one in each]))
        applies: list[Apply] = []
        made: list[tuple[ShadowCopy, Plan]] = []
        for (copy, pulled), requested in zip(found, commands, strict=True):
            read = [next(answers) for _ in requested]
            if any(isinstance(answer, LogUnavailableError) for answer in read):
                copy.has_more = True
                continue
            planned = plan(self._projection, pulled, read, self._log.dead_letter)
            applies.append(Apply(copy.keys, copy.position, planned.new, copy.keep(pulled, planned.ops)))
            made.append((copy, planned))
        for (copy, planned), applied in zip(made, await self._log.apply(applies), strict=True):
            self._has_progressed |= applied.code != Code.UNKNOWN
            match applied.code:
                case Code.OK:
                    copy.position = planned.new
                    copy.events += planned.applied
                    copy.has_more = planned.has_more
                case Code.GONE:
                    self._drop_gone(copy)
                case Code.MISPLACED:
                    self._fail(copy, f"its copy was refused: {applied.reason}")
                case Code.UNKNOWN:
                    copy.restart()
                case _:
                    self._rest(copy)

    async def _swap(self, copies: Sequence[ShadowCopy]) -> None:
        after = await self._contents([copy.keys.copy(part) for copy in copies for part in self._parts])
        swaps = [copy.swap(self._dead_letter_ids.get(copy.keys.member, ())) for copy in copies]
        answers = await self._rebuilds.swap(swaps, keep=self._verify, mend=self._is_complete)
        self._has_progressed |= any(answer.code != Code.UNKNOWN for answer in answers)
        done: list[tuple[ShadowCopy, Swapped, Sequence[Content]]] = []
        for number, (copy, answer) in enumerate(zip(copies, answers, strict=True)):
            match answer.code:
                case Code.OK:
                    first = number * len(self._parts)
                    done.append((copy, answer, after[first : first + len(self._parts)]))
                    self._finish(copy, answer)
                case Code.GONE:
                    self._drop_gone(copy)
                case Code.STALE:
                    self._chase(copy)
                case Code.LOST:
                    self._rest(copy)
                case Code.MISPLACED:
                    self._fail(copy, "a listing is of a foreign type; a rebuild without named sessions repairs it")
        if self._verify and done:
            await self._compare(done)

    def _finish(self, copy: ShadowCopy, swapped: Swapped) -> None:
        report = self.report
        report.runs += 1
        report.events += copy.events
        report.dead_lettered += len(copy.dead_letters)
        report.dead_letters_settled += len(self._dead_letter_ids.get(copy.keys.member, ()))
        report.behind += swapped.position < copy.position
        del self._copies[copy.keys.member]

    async def _compare(self, done: Sequence[tuple[ShadowCopy, Swapped, Sequence[Content]]]) -> None:
        """Compare the old read models, which the swap has kept, with the new ones, and drop them."""
        old = iter(await self._contents([copy.keys.before(part) for copy, _, _ in done for part in self._parts]))
        for copy, swapped, after in done:
            is_behind = swapped.position < copy.position
            for part, now in zip(self._parts, after, strict=True):
                found = compare(f"{part} {copy.keys.member}", next(old), now)
                self.report.checksum_before += found.checksum_before
                self.report.checksum_after += found.checksum_after
                if not is_behind and not found.is_equal:
                    self.report.differing.append((copy.keys.member, part))
            if not is_behind and swapped.moved:
                self.report.differing.append((copy.keys.member, "listing"))
        await self._rebuilds.drop([copy.keys for copy, _, _ in done])

    async def _contents(self, keys: Sequence[str]) -> Sequence[Content]:
        return await read_contents(self._server, keys) if self._verify else ()

    def _rest(self, copy: ShadowCopy) -> None:
        """Restart the copy after a rest: it isn't where this rebuild left it, so another one is at it."""
        copy.contests += 1
        if copy.contests > MOST_CONTESTS:
            self._fail(copy, "another rebuild is at it")
            return
        copy.restart()
        longest_s = min(LONGEST_REST_S, FIRST_REST_S * 2**copy.contests)
        # Two rebuilds that rested alike would meet again.
        copy.rests_until = asyncio.get_running_loop().time() + random.uniform(0, longest_s)  # noqa: S311 - no secret

    def _chase(self, copy: ShadowCopy) -> None:
        """Continue with the copy: the old read model has more facts by now."""
        copy.has_more = True
        copy.chases += 1
        if copy.chases > MOST_CHASES:
            self._fail(copy, "it could not be caught up with")

    def _drop_gone(self, copy: ShadowCopy) -> None:
        if not self._is_complete:
            self._fail(copy, "it has no facts, or none any more")
            return
        self.report.gone += 1
        del self._copies[copy.keys.member]

    def _fail(self, copy: ShadowCopy, reason: str) -> None:
        self.report.failed.append((copy.keys.member, reason))
        del self._copies[copy.keys.member]
