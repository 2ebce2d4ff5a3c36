"""Rebuilds read models from the facts while everything goes on: beside the old ones, then in their place."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from eventlog.keys import RunKeys
from eventlog.log import Code, LogFullError, LogUnavailableError
from eventlog.projection.checksums import Content, contents, equal
from eventlog.projection.projection_log import Apply, ProjectionLog, Pulled
from eventlog.projection.rebuild import COPY_TTL_S, PARTS, Rebuilds, RebuiltKeys, Swapped
from eventlog.redis.server import Server
from projections.fold_plan import Decoded, Plan, decoded, plan
from projections.projection import Projection
from projections.shadow_copy import ShadowCopy, is_behind

RUNS_AT_ONCE = 256
"""Copies under way: each round is some four round trips, which most runs need only once."""

FACTS_AT_ONCE = 4096
"""In one round: some 5 ms of Redis's time, in several calls, so that live traffic hardly notices."""

MOST_FACTS = 1000
"""Of one run in one round: Lua takes no more than some 8,000 values in one command."""

COMPARED_AT_ONCE = 16
"""Runs whose contents are read to be compared: at worst a long List and a full feed each, some megabytes."""

MOST_CHASES = 200
"""A copy that has not caught up after so many rounds, some milliseconds each, isn't going to."""

MOST_CONTESTS = 20
"""Another rebuild is at the same run: whoever finds that out rests, each time about twice as long, and begins anew."""

FIRST_REST_S = 0.05
"""Most copies are in place by then."""

LONGEST_REST_S = 10.0
"""A very long run takes that."""

GIVE_UP_S = 30.0
"""Redis may be away for this long: a restart or a failover takes less."""

LAST_ROUND_S = 2.0
"""Whoever presses Ctrl-C waits no longer for a round, which takes milliseconds where Redis answers."""

PAUSE_S = 0.25
"""Between two tries while it is."""


COLLECT_AFTER = 100_000
"""Objects after which Python looks for cycles: facts and words by the thousand are made, and no cycle among them, so
with its own 700 it spends a sixth of the time looking."""


def ease_collection() -> None:
    """Have this process, which does nothing but rebuild, look for garbage rarely."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


@dataclass
class Report:
    """What came of a rebuild so far."""

    runs: int = 0
    """Rebuilt and in place."""
    events: int = 0
    """Facts in them."""
    gone: int = 0
    """Runs that were erased or expired meanwhile."""
    behind: int = 0
    """Runs whose old read model was not as far as the facts, or not there."""
    set_aside: int = 0
    """Facts that could not be applied; they are in the dead letters."""
    letters_settled: int = 0
    """Old dead letters that went with their cause."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(run, why): those that are as they were before."""
    differing: list[tuple[str, str]] = field(default_factory=list)
    """(run, part): what was not what the facts say; only known if that was asked for."""
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
        whole: bool = False, old_letters: Mapping[str, Sequence[str]] | None = None,
    ) -> None:  # fmt: skip
        """Rebuild what `projection` made.

        Args:
            projection: One that no other task uses.
            server: Where.
            consumer: Named in dead letters.
            session_ttl_s: Of keys that have none.
            verify: Compare what was there with what takes its place.
            whole: All runs are rebuilt, so listings that are none may be dropped, and runs may go meanwhile.
            old_letters: Entry ids of the projection's dead letters by run, settled by the rebuild.
        """
        self.report = Report()
        self._projection = projection
        self._server = server
        # What it writes are copies, which nobody needs for long.
        self._log = ProjectionLog(server, projection.name, consumer, session_ttl_s=COPY_TTL_S)
        self._rebuilds = Rebuilds(server, projection.name, session_ttl_s=session_ttl_s)
        self._verify = verify
        self._whole = whole
        self._old_letters = old_letters or {}
        self._copies: dict[str, ShadowCopy] = {}
        self._progressed = False

    async def run(self, runs: AsyncIterator[RunKeys], on_progress: Callable[[Report], None]) -> Report:
        """Rebuild `runs`, each once; what isn't in place at an error or a cancellation is as it was before.

        Raises:
            LogUnavailableError: if Redis can't be reached for long, or has no memory for copies.
        """
        task = asyncio.current_task()
        asked = task.cancelling() if task else 0
        try:
            while await self._filled(runs):
                await self._whole_round()
                on_progress(self.report)
                await asyncio.sleep(0)  # where a cancellation that came between two calls takes effect
                # One that came with the end of a call is forgotten by the client library.
                if task and task.cancelling() > asked:
                    raise asyncio.CancelledError
        finally:
            await self._drop_copies()
        return self.report

    async def _drop_copies(self) -> None:
        if self._copies:
            with contextlib.suppress(LogUnavailableError):  # they expire
                await self._rebuilds.drop([copy.keys for copy in self._copies.values()])

    async def _filled(self, runs: AsyncIterator[RunKeys]) -> bool:
        """Whether there is something to do, once the places that have become free are taken."""
        while len(self._copies) < RUNS_AT_ONCE:
            run = await anext(runs, None)
            if run is None:
                break
            self._copies[run.member] = ShadowCopy(RebuiltKeys(run), self._projection.name)
        return bool(self._copies)

    async def _whole_round(self) -> None:
        """A round that a cancellation waits for, or what Redis hasn't read yet would come after copies are dropped."""
        task = asyncio.create_task(self._patient_round())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=LAST_ROUND_S)
            task.cancel()
            raise

    async def _patient_round(self) -> None:
        """A round, tried again while Redis is away."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + GIVE_UP_S
        while True:
            self._progressed = False
            try:
                await self._round()
            except LogFullError:
                raise
            except LogUnavailableError:
                if clock() > deadline:
                    raise
            if self._progressed:
                return
            if clock() > deadline:
                raise LogUnavailableError("a part of Redis can't be reached")
            await asyncio.sleep(PAUSE_S)

    async def _round(self) -> None:
        """One step with each copy."""
        await self._begin(await self._rested())
        begun = [copy for copy in self._copies.values() if copy.is_begun and copy.has_more]
        limit = min(MOST_FACTS, max(1, FACTS_AT_ONCE // max(1, len(begun))))
        found: list[tuple[ShadowCopy, Decoded]] = []
        for pulled in await self._log.pull([copy.keys for copy in begun], limit=limit):
            copy = self._copies[pulled.keys.member]
            if self._is_expected(copy, pulled):
                copy.has_more = len(pulled.facts) >= limit
                if pulled.facts:
                    facts = decoded(copy.keys, pulled.position, pulled.facts, has_more=copy.has_more)
                    found.append((copy, facts))
        await self._apply(found)
        whole = [copy for copy in self._copies.values() if copy.is_begun and not copy.has_more]
        each = COMPARED_AT_ONCE if self._verify else RUNS_AT_ONCE
        for first in range(0, len(whole), each):
            await self._swap(whole[first : first + each])

    async def _rested(self) -> list[ShadowCopy]:
        """Copies that are to begin; where all rest, those that do so the shortest, once they have."""
        clock = asyncio.get_running_loop().time
        waiting = [copy for copy in self._copies.values() if not copy.is_begun]
        if len(waiting) == len(self._copies):
            first = min(copy.rests_until for copy in waiting)
            await asyncio.sleep(max(0.0, first - clock()))
            return [copy for copy in waiting if copy.rests_until <= max(first, clock())]
        return [copy for copy in waiting if copy.rests_until <= clock()]

    async def _begin(self, copies: Sequence[ShadowCopy]) -> None:
        for copy, code in zip(copies, await self._rebuilds.begin([copy.keys for copy in copies]), strict=True):
            self._progressed |= code != Code.UNKNOWN
            copy.is_begun = code == Code.OK
            if code == Code.GONE:
                self._gone(copy)

    def _is_expected(self, copy: ShadowCopy, pulled: Pulled) -> bool:
        """Whether these facts follow those in the copy; what else there is was made by somebody else."""
        if pulled.broken:
            self._failed(copy, f"the facts can't be read: {pulled.broken}")
            return False
        if pulled.position != copy.position:
            self._contested(copy)
            return False
        return True

    async def _apply(self, found: Sequence[tuple[ShadowCopy, Decoded]]) -> None:
        applies: list[Apply] = []
        made: list[tuple[ShadowCopy, Plan]] = []
        for (copy, facts), answers in zip(found, await self._read(found), strict=True):
            if any(isinstance(answer, LogUnavailableError) for answer in answers):
                copy.has_more = True
                continue
            planned = plan(self._projection, facts, answers, self._log.dead_letter)
            ops = copy.sorted_out(facts.batch, planned.ops)
            applies.append(Apply(copy.keys, copy.position, planned.new, ops))
            made.append((copy, planned))
        for (copy, planned), answer in zip(made, await self._log.apply(applies), strict=True):
            self._progressed |= answer.code != Code.UNKNOWN
            if answer.code == Code.OK:
                copy.position = planned.new
                copy.events += planned.applied
                copy.has_more |= not planned.is_whole
            elif answer.code == Code.GONE:
                self._gone(copy)
            elif answer.code == Code.MISPLACED:
                self._failed(copy, f"its copy was refused: {answer.reason}")
            elif answer.code == Code.UNKNOWN:
                copy.restart()
            else:
                self._contested(copy)

    async def _read(self, found: Sequence[tuple[ShadowCopy, Decoded]]) -> list[list[object]]:
        commands = [list(self._projection.reads(facts.batch)) for _, facts in found]
        answers = iter(await self._server.execute_many([command for some in commands for command in some]))
        return [[next(answers) for _ in some] for some in commands]

    async def _swap(self, copies: Sequence[ShadowCopy]) -> None:
        after = await self._contents([copy.keys.copy(part) for copy in copies for part in self._parts])
        swaps = [copy.swap(self._old_letters.get(copy.keys.member, ())) for copy in copies]
        answers = await self._rebuilds.swap(swaps, keep=self._verify, mend=self._whole)
        self._progressed |= any(answer.code != Code.UNKNOWN for answer in answers)
        done: list[tuple[ShadowCopy, Swapped, Sequence[Content]]] = []
        for number, (copy, answer) in enumerate(zip(copies, answers, strict=True)):
            match answer.code:
                case Code.OK:
                    first = number * len(self._parts)
                    done.append((copy, answer, after[first : first + len(self._parts)]))
                    self._done(copy, answer)
                case Code.GONE:
                    self._gone(copy)
                case Code.STALE:
                    self._chased(copy)
                case Code.LOST:
                    self._contested(copy)
                case Code.MISPLACED:
                    self._failed(copy, "a listing is of a foreign type; rebuild without naming sessions mends it")
        if self._verify and done:
            await self._compare(done)

    def _done(self, copy: ShadowCopy, swapped: Swapped) -> None:
        report = self.report
        report.runs += 1
        report.events += copy.events
        report.set_aside += len(copy.letters)
        report.letters_settled += len(self._old_letters.get(copy.keys.member, ()))
        report.behind += is_behind(swapped.position, copy)
        del self._copies[copy.keys.member]

    async def _compare(self, done: Sequence[tuple[ShadowCopy, Swapped, Sequence[Content]]]) -> None:
        """Compare what was there with what is there now, and let it go."""
        old = iter(await self._contents([copy.keys.before(part) for copy, _, _ in done for part in self._parts]))
        for copy, swapped, after in done:
            behind = is_behind(swapped.position, copy)
            for part, now in zip(self._parts, after, strict=True):
                before = next(old)
                since = max(before.first, now.first)
                self.report.checksum_before += _number(copy, part, before.since(since))
                self.report.checksum_after += _number(copy, part, now.since(since))
                if not behind and not equal(before, now):
                    self.report.differing.append((copy.keys.member, part))
            if not behind and swapped.moved:
                self.report.differing.append((copy.keys.member, "listing"))
        await self._rebuilds.drop([copy.keys for copy, _, _ in done])

    async def _contents(self, keys: Sequence[str]) -> Sequence[Content]:
        return await contents(self._server, keys) if self._verify else ()

    @property
    def _parts(self) -> Sequence[str]:
        return PARTS[self._projection.name]

    def _contested(self, copy: ShadowCopy) -> None:
        """The copy isn't where this rebuild left it: another one is at it."""
        copy.contests += 1
        if copy.contests > MOST_CONTESTS:
            self._failed(copy, "another rebuild is at it")
            return
        copy.restart()
        longest_s = min(LONGEST_REST_S, FIRST_REST_S * 2**copy.contests)
        # Two rebuilds that rested alike would meet again.
        copy.rests_until = asyncio.get_running_loop().time() + random.uniform(0, longest_s)  # noqa: S311 - no secret

    def _chased(self, copy: ShadowCopy) -> None:
        """The old one has more facts by now."""
        copy.has_more = True
        copy.chases += 1
        if copy.chases > MOST_CHASES:
            self._failed(copy, "it could not be caught up with")

    def _gone(self, copy: ShadowCopy) -> None:
        if not self._whole:
            self._failed(copy, "there are no facts of it, or no more")
            return
        self.report.gone += 1
        del self._copies[copy.keys.member]

    def _failed(self, copy: ShadowCopy, reason: str) -> None:
        self.report.failed.append((copy.keys.member, reason))
        del self._copies[copy.keys.member]


def _number(copy: ShadowCopy, part: str, content: Content) -> int:
    """The checksum of a run's part as a number that can be added up; nothing for no key."""
    if content.kind == b"none":
        return 0
    named = f"{part} {copy.keys.member} ".encode() + content.checksum
    return int.from_bytes(hashlib.sha256(named).digest(), "big")
