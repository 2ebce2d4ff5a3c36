"""How a forwarder hears what there is to do: notices, walks over the index, and redriven letters."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from eventlog.keys import LIVE_RUN, PartitionKeys, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.dead_letters import DeadLetter, read_redriven
from eventlog.projection.projection_log import ABANDONED_MS, NOTICES_PER_READ, ProjectionLog
from projections.forwarding.run_scheduler import RunScheduler

GATHER_S = 0.25
"""News are gathered for so long before a look: nobody outside waits for less, and with a thousand live sessions each
look finds a hundred runs, where one for each would cost a hundred times as many calls."""

SWEEP_S = 2.0
"""Between two looks at all partitions: what a lost bell costs at most."""

MOST_NOTED = 50_000
"""Runs kept in memory, some 40 MB; past this notices stay where they are, and are walked for if they are trimmed."""

MOST_REDRIVEN = 64
"""Letters taken at once of a partition: they are sent beside what is new."""

WALK_BELOW = 512
"""A walk goes on while fewer runs than that wait to be pulled: news aren't queued behind all that is retained."""

FULL_PAUSE_S = 1.0
"""Before the next look where there is no room for what it would bring, or a node is away."""

_log = logging.getLogger(__name__)


class NoticeReader:
    """Puts names of runs and letters into two backlogs, of the partitions that it was told to."""

    def __init__(
        self, log: ProjectionLog, runs: RunScheduler[RunKeys], letters: RunScheduler[DeadLetter],
        clock: Callable[[], float],
    ) -> None:
        """Read as `log`'s consumer."""
        self._log = log
        self._runs = runs
        self._letters = letters
        self._clock = clock
        self._held: dict[int, PartitionKeys] = {}
        self._rung: set[int] = set()
        self._look_s = float("inf")
        self._sweep_s = float("-inf")
        self._walk_s = float("-inf")
        self._doubtful: set[int] = set()
        self._unacked: dict[PartitionKeys, list[bytes]] = {}
        self._walks: deque[_Walk] = deque()
        self._redriven: set[int] = set()

    @property
    def next_s(self) -> float:
        """When to look again; minus infinity for at once."""
        if self._redriven or self._may_walk:
            return float("-inf")
        return min(self._look_s, self._sweep_s) if self._held else float("inf")

    @property
    def is_walking(self) -> bool:
        """Whether there are runs that it hasn't looked at yet."""
        return bool(self._walks)

    @property
    def _may_walk(self) -> bool:
        has_room = self._runs.todo < WALK_BELOW and len(self._runs) < MOST_NOTED
        return bool(self._walks) and has_room and self._clock() >= self._walk_s

    def gain(self, partitions: Iterable[PartitionKeys]) -> None:
        """Look after these from now on: at every run that they have, for what others acked is in no notice."""
        for partition in partitions:
            self._held[partition.number] = partition
            self._doubtful.add(partition.number)
            self._redriven.add(partition.number)
            self._walks.append(_Walk(partition, ""))
            self._ring_now(partition.number)

    def lose(self, partitions: Iterable[PartitionKeys]) -> None:
        """Leave these to others."""
        for partition in partitions:
            self._held.pop(partition.number, None)
            self._rung.discard(partition.number)
            self._unacked.pop(partition, None)
            self._runs.drop(partition)
            self._letters.drop(partition)
        self._walks = deque(walk for walk in self._walks if walk.partition.number in self._held)

    def ring(self, numbers: Iterable[int]) -> bool:
        """There may be notices in these partitions; says whether a look was planned because of it."""
        before = len(self._rung)
        self._rung.update(number for number in numbers if number in self._held)
        if before or not self._rung:
            return False
        self._look_s = self._clock() + GATHER_S
        return True

    def ring_redriven(self, number: int) -> None:
        """A partition has letters to be sent once more."""
        if number in self._held:
            self._redriven.add(number)

    async def take_in(self) -> None:
        """Read whatever is due now.

        Raises:
            LogUnavailableError: if it can't be reached; what wasn't read is looked at again.
        """
        now_s = self._clock()
        sweeping = now_s >= self._sweep_s
        if sweeping:
            await self._ack_if_reached()
            self._redriven.update(self._held)
            await self._look(list(self._held.values()), sweeping=True)
            self._sweep_s = now_s + SWEEP_S
        elif now_s >= self._look_s:
            await self._look([self._held[number] for number in sorted(self._rung)], sweeping=False)
        await self._read_redriven()
        await self._walk_on()

    async def ack(self) -> None:
        """Forget the notices of all runs that are noted; they come again where that fails.

        Raises:
            LogUnavailableError: if it does.
        """
        unacked, self._unacked = self._unacked, {}
        await self._log.ack(unacked)

    async def _ack_if_reached(self) -> None:
        unacked = dict(self._unacked)
        try:
            await self.ack()
        except LogUnavailableError as error:
            # Perhaps of one node alone; nothing but these notices is held up by it, and they come again.
            _log.debug("notices not acked", extra={"sink": self._log.projection, "error": error})
            self._doubtful.update(partition.number for partition in unacked if partition.number in self._held)

    def _ring_now(self, number: int) -> None:
        self._rung.add(number)
        self._look_s = self._clock()

    async def _look(self, partitions: Sequence[PartitionKeys], *, sweeping: bool) -> None:
        if not partitions:
            return
        if len(self._runs) >= MOST_NOTED:
            self._look_s = self._clock() + FULL_PAUSE_S
            return
        numbers = {partition.number for partition in partitions}
        self._rung -= numbers
        self._look_s = self._look_s if self._rung else float("inf")
        own = frozenset(self._doubtful & numbers)
        self._doubtful |= numbers  # until it is known that nothing got lost on the way
        news = await self._log.read_notices(partitions, own=own, idle_ms=ABANDONED_MS if sweeping else None)
        for one in news:
            self._doubtful.discard(one.partition.number)
            self._note(member for _, member in one.notices)
            self._unacked.setdefault(one.partition, []).extend(notice for notice, _ in one.notices)
            if len(one.notices) >= NOTICES_PER_READ:
                self._ring_now(one.partition.number)
            if one.walk and not any(walk.is_for(one.partition, one.walk) for walk in self._walks):
                self._walks.append(_Walk(one.partition, one.walk))

    def _note(self, members: Iterable[str]) -> None:
        of_run = self._log.server.keys.of_run
        for member in members:
            keys = of_run(member)
            # Sinks hear of live runs alone; a replay is nobody's business before it is promoted.
            if member and keys.run == LIVE_RUN:
                self._runs.note(keys.member, keys)

    async def _read_redriven(self) -> None:
        if not self._redriven:
            return
        numbers, self._redriven = self._redriven, set()
        partitions = [self._held[number] for number in sorted(numbers) if number in self._held]
        try:
            found = await read_redriven(self._log.server, self._log.projection, partitions, MOST_REDRIVEN)
        except LogUnavailableError as error:  # they are looked for at each sweep
            _log.debug("redriven letters not read", extra={"sink": self._log.projection, "error": error})
            return
        for letter in found:
            if letter.id not in self._letters:
                self._letters.note(letter.id, letter)

    async def _walk_on(self) -> None:
        if not self._may_walk:
            return
        walk = self._walks[0]
        try:
            runs = await walk.next_page(self._log)
            if runs is None and walk.token:
                await self._log.finish_walk(walk.partition, walk.token)
        except LogUnavailableError as error:
            # The others first: its node may be away, and theirs not.
            _log.debug("walk interrupted", extra={"sink": self._log.projection, "error": error})
            walk.begin_anew()
            self._walks.rotate(-1)
            self._walk_s = self._clock() + FULL_PAUSE_S
            return
        if runs is None:
            self._walks.popleft()
            return
        if walk.partition.number in self._held:
            self._note(keys.member for keys in runs)


class _Walk:
    """A walk over all runs of a partition."""

    def __init__(self, partition: PartitionKeys, token: str) -> None:
        """`token` is of the order to walk; empty for the walk of whoever takes a partition."""
        self.partition = partition
        self.token = token
        self._pages: AsyncIterator[list[RunKeys]] | None = None

    def is_for(self, partition: PartitionKeys, token: str) -> bool:
        """Whether it is the walk that this order asks for."""
        return self.partition is partition and self.token == token

    def begin_anew(self) -> None:
        """From the start, at the next page."""
        self._pages = None

    async def next_page(self, log: ProjectionLog) -> list[RunKeys] | None:
        """Some more runs; None once it has seen all."""
        if self._pages is None:
            self._pages = log.walk(self.partition)
        return await anext(self._pages, None)


