"""Projections' side of the log: notices of news, facts pulled from a projection's own position, guarded applies.

`changes` only says which runs have news. The position up to which a projection has applied a run stands beside its
read model and moves in the same script, so notices that are lost, doubled, late or trimmed change nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple

from eventlog.codec import UndecodableEventError, decode_fact
from eventlog.events import Fact, SessionOpened
from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.positions import START, Position
from eventlog.projection.operations import Op, add
from eventlog.redis.isolated_calls import run_isolated
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Call, Server

NOTICES_PER_READ = 256
"""Of each kind, partition and call: 20 kB, and what one round can fold before other partitions wait noticeably."""

ABANDONED_MS = 5000
"""A notice left for longer is taken over; a living consumer acks within a round, some milliseconds."""

PARTITIONS_PER_READ = 64
"""In one script call: 1 ms of Redis's time, most of it for the take-over of abandoned notices."""

RUNS_PER_PULL = 64
"""Runs in one script call: about 1 ms of Redis's time when each has news."""

RUNS_PER_APPLY = 64
"""Runs in one script call: 2 ms of Redis's time; a call for each would cost both sides twice as much."""

FACTS_PER_PULL = 200
"""Facts of one run in one pull: with 64 runs some 4 MB at worst; a run further behind is pulled again."""

DEAD_LETTERS_MAX = 10_000
"""Per partition and projection: a defect that hits every fact fills some 2 MB, not the server."""

WALK_COUNT = 256
"""Runs that a walk over the index looks at in one call."""

CONSUMER_SILENCE_MS = 3_600_000
"""A consumer without notices is forgotten after an hour: a living one reads every second."""

UNDECODABLE = "undecodable"
"""Reason of a fact's dead letter."""


class Notices(NamedTuple):
    """The entries of one partition's `changes` that a projection has not seen yet."""

    partition: PartitionKeys
    notices: list[tuple[bytes, str]]
    """(id, ``<session> <run>``); the member is empty where the notice itself is gone."""
    walk: str
    """Non-empty if the projection may have missed notices: all runs of the index have to be looked at."""


class RunFacts(NamedTuple):
    """Facts of one run that follow the position up to which the projection has applied it."""

    keys: RunKeys
    after: Position
    facts: Sequence[tuple[Position, Fact]]
    undecodable: Sequence[tuple[Position, str]] = ()
    """Positions, with the reason, of facts of no version that this build can decode."""
    has_more: bool = False
    """Whether the run may have further facts."""
    unreadable: str = ""
    """Why neither position nor facts could be read: a key was overwritten by a value of another type."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was pulled, decodable or not."""
        return not self.facts and not self.undecodable

    @property
    def end(self) -> Position:
        """The last position that was pulled: where the projection stands once all of it is applied."""
        ends = [part[-1][0] for part in (self.facts, self.undecodable) if part]
        return max(ends, default=self.after)

    @property
    def opened(self) -> SessionOpened | None:
        """The run's first fact, if it was pulled and can be read."""
        first = self.facts[0][1] if self.after == START and self.facts else None
        return first if isinstance(first, SessionOpened) else None

    def first(self, count: int) -> RunFacts:
        """The first `count` facts, of one at least, with the undecodable ones before the last of them."""
        position = self.facts[count - 1][0]
        return self._replace(
            facts=self.facts[:count], undecodable=[one for one in self.undecodable if one[0] < position],
            has_more=self.has_more or position != self.end,
        )  # fmt: skip


class Apply(NamedTuple):
    """The operations that a projection made of some facts, to be written if its position is still `expected`."""

    keys: RunKeys
    expected: Position
    new: Position
    ops: Sequence[Op]


class Applied(NamedTuple):
    """The answer: OK, STALE, GONE, MISPLACED, or UNKNOWN if the call failed."""

    code: Code
    reason: str = ""


class ProjectionLog:
    """One projection's side of the log, as one consumer; safe for concurrent use."""

    def __init__(self, server: Server, projection: str, consumer: str, *, session_ttl_s: int) -> None:
        """Read as `consumer` (unique among the living) of `projection`; keys written expire after `session_ttl_s`."""
        self.server = server
        self.projection = projection
        self.consumer = consumer
        self._ttl_s = session_ttl_s

    async def read_notices(
        self,
        partitions: Iterable[PartitionKeys],
        *,
        own: frozenset[int] = frozenset(),
        idle_ms: int | None = None,
    ) -> list[Notices]:
        """Notices of these partitions; those that can't be reached are absent.

        Args:
            partitions: Which to look at.
            own: Numbers of those where the consumer's own unacked notices are wanted again.
            idle_ms: Take over other consumers' notices that were left for longer; None for none.

        Raises:
            LogUnavailableError: if none can be reached.
        """
        requested = list(partitions)
        options: list[Argument] = [self.projection, self.consumer, NOTICES_PER_READ, "" if idle_ms is None else idle_ms]

        def call(items: Sequence[PartitionKeys]) -> Call:
            keys = [key for partition in items for key in (partition.changes, partition.walks)]
            wanted = [int(partition.number in own) for partition in items]
            return Call(script("read_changes"), keys, [*options, *wanted])

        answers = await run_isolated(
            self.server, requested, lambda partition: partition.number, PARTITIONS_PER_READ, call
        )
        found = []
        for partition, answer in zip(requested, answers, strict=True):
            if not isinstance(answer, Exception):
                flat, walk = answer
                members = (member.decode(errors="replace") for member in flat[1::2])
                # A notice can be both left over and the consumer's own; each is wanted once.
                notices = dict(zip(flat[::2], members, strict=True))
                found.append(Notices(partition, list(notices.items()), walk.decode()))
        return found

    async def pull(self, runs: Iterable[RunKeys], *, limit: int = FACTS_PER_PULL) -> list[RunFacts]:
        """Up to `limit` facts of each run after the projection's position; runs that can't be reached are absent.

        Raises:
            LogUnavailableError: if none can be reached.
        """
        requested = list(runs)

        def call(items: Sequence[RunKeys]) -> Call:
            keys = [key for run in items for key in (run.projected(self.projection), run.transcript)]
            return Call(script("pull_facts"), keys, [limit])

        found = []
        answers = await run_isolated(self.server, requested, lambda run: run.partition.number, RUNS_PER_PULL, call)
        for run, answer in zip(requested, answers, strict=True):
            if isinstance(answer, Exception):
                continue
            position, flat = answer
            if not position:
                found.append(RunFacts(run, START, (), unreadable=flat.decode(errors="replace")))
                continue
            facts: list[tuple[Position, Fact]] = []
            undecodable: list[tuple[Position, str]] = []
            for entry_id, data in zip(flat[::2], flat[1::2], strict=True):
                try:
                    facts.append((Position.parse(entry_id), decode_fact(data)))
                except UndecodableEventError:
                    undecodable.append((Position.parse(entry_id), UNDECODABLE))
            has_more = len(facts) + len(undecodable) >= limit
            found.append(RunFacts(run, Position.parse(position), facts, undecodable, has_more))
        return found

    async def apply(self, applies: Sequence[Apply]) -> list[Applied]:
        """Write each, all of it or nothing; safe to repeat: a second time it is STALE.

        Raises:
            LogUnavailableError: if no answer came at all.
        """

        def call(items: Sequence[Apply]) -> Call:
            keys: list[str] = []
            arguments: list[Argument] = [self._ttl_s]
            for one in items:
                own = {one.keys.projected(self.projection): 1, one.keys.transcript: 2}
                operations: list[Argument] = []
                for op in one.ops:
                    number = own.setdefault(op.key, len(own) + 1) if op.key else 0
                    operations += (number, int(op.expires), len(op.arguments), op.command, *op.arguments)
                keys += own
                arguments += (len(own), len(operations), str(one.expected), str(one.new), *operations)
            return Call(script("apply_projection"), keys, arguments)

        answers = await run_isolated(
            self.server, applies, lambda one: one.keys.partition.number, RUNS_PER_APPLY, call
        )
        found = []
        for answer in answers:
            if isinstance(answer, LogUnavailableError):
                found.append(Applied(Code.UNKNOWN, str(answer)))
            elif isinstance(answer, Exception):
                found.append(Applied(Code.MISPLACED, f"{type(answer).__name__}: {answer}"))
            else:
                found.append(Applied(Code(answer[0]), answer[2].decode(errors="replace")))
        return found

    async def ack(self, notices: Mapping[PartitionKeys, Sequence[bytes]]) -> None:
        """Forget notices whose runs have been looked at.

        Raises:
            LogUnavailableError: if some could not be; they come again.
        """
        await self.server.execute_all([
            ("XACK", partition.changes, self.projection, *ids) for partition, ids in notices.items() if ids
        ])  # fmt: skip

    async def walk(self, partition: PartitionKeys) -> AsyncIterator[list[RunKeys]]:
        """Every run of the partition's index, some of them twice, in batches.

        Raises:
            LogUnavailableError: if it can't be reached.
        """
        cursor: Argument = 0
        while True:
            # A script's answer is raw, where the client's own ZSCAN would first make pairs of it.
            cursor, members = await self.server.run(script("scan_index"), [partition.index], [cursor, WALK_COUNT])
            yield [self.server.keys.of_run(member.decode(errors="replace")) for member in members]
            if int(cursor) == 0:
                return

    async def finish_walk(self, partition: PartitionKeys, token: str) -> None:
        """Note that the walk ordered by `token` is done.

        Raises:
            LogUnavailableError: if it can't be noted; the walk will be done again.
        """
        await self.server.run(script("finish_walk"), [partition.walks], [self.projection, token])

    def dead_letter(self, keys: RunKeys, position: Position, reason: str) -> Op:
        """The operation that dead-letters a fact; `reason` must not hold any of its text."""
        fields = {
            "projection": self.projection, "run": keys.member, "fact": str(position),
            "reason": reason, "consumer": self.consumer,
        }  # fmt: skip
        return add(keys.partition.dead_letters(self.projection), "*", fields, most=DEAD_LETTERS_MAX)


async def trim_changes(server: Server, partitions: Iterable[PartitionKeys], *, most: int) -> dict[str, int]:
    """Free acked notices, and those above `most`; returns how many partitions each projection has to walk now.

    Raises:
        LogUnavailableError: if no partition can be reached.
    """
    calls = [
        Call(script("trim_changes"), [partition.changes, partition.walks], [most, CONSUMER_SILENCE_MS])
        for partition in partitions
    ]
    walking: dict[str, int] = {}
    for answer in await server.run_many(calls):
        if isinstance(answer, Exception):
            continue
        for name in answer[2]:
            walking[name.decode()] = walking.get(name.decode(), 0) + 1
    return walking
