"""Projections' side of the log: notices of news, facts pulled from a projection's own position, guarded applies.

`changes` only says which runs have news. The position up to which a projection has applied a run stands beside its
read model and moves in the same script, so notices that are lost, doubled, late or trimmed change nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from redis.exceptions import ResponseError

from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.positions import Position
from eventlog.projection.operations import Op, add
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Call, Server

NOTICES_PER_READ = 256
"""Of each kind, partition and call: 20 kB, and what one round can fold before other partitions wait noticeably."""

RUNS_PER_PULL = 64
"""Runs in one script call: about 1 ms of Redis's time when each has news."""

T = TypeVar("T")

PARTITIONS_PER_READ = 64
"""In one script call: 1 ms of Redis's time, most of it for the take-over of what was left."""

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


class News(NamedTuple):
    """What one partition's `changes` had for a projection."""

    partition: PartitionKeys
    notices: list[tuple[bytes, str]]
    """(id, ``<session> <run>``); the member is empty where the notice itself is gone."""
    walk: str
    """Non-empty if the projection may have missed notices: all runs of the index have to be looked at."""


class Pulled(NamedTuple):
    """A run's facts after the projection's position."""

    keys: RunKeys
    position: Position
    facts: list[tuple[Position, bytes]]
    broken: str = ""
    """Why neither could be read: a key has been overwritten by something that isn't ours."""


class Apply(NamedTuple):
    """What a projection made of some facts, to be written if its position is still `expected`."""

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

    async def news(
        self,
        partitions: Iterable[PartitionKeys],
        *,
        own: frozenset[int] = frozenset(),
        idle_ms: int | None = None,
    ) -> list[News]:
        """Notices of these partitions; those that can't be reached are absent.

        Args:
            partitions: Which to look at.
            own: Numbers of those where the consumer's own unacked notices are wanted again.
            idle_ms: Take over other consumers' notices that were left for longer; None for none.

        Raises:
            LogUnavailableError: if none can be reached.
        """
        asked = list(partitions)
        idle: Argument = "" if idle_ms is None else idle_ms

        def call(some: Sequence[PartitionKeys]) -> Call:
            keys = [key for partition in some for key in (partition.changes, partition.walks)]
            wanted = [int(partition.number in own) for partition in some]
            return Call(
                script("read_changes"), keys, [self.projection, self.consumer, NOTICES_PER_READ, idle, *wanted]
            )

        answers = await self._together(asked, lambda partition: partition.number, PARTITIONS_PER_READ, call)
        return [
            News(partition, _notices(answer[0]), answer[1].decode())
            for partition, answer in zip(asked, answers, strict=True)
            if not isinstance(answer, Exception)
        ]

    async def pull(self, runs: Iterable[RunKeys], *, limit: int = FACTS_PER_PULL) -> list[Pulled]:
        """The facts of each run after the projection's position; runs that can't be reached are absent.

        Raises:
            LogUnavailableError: if none can be reached.
        """
        asked = list(runs)
        answers = await self._together(
            asked, lambda run: run.partition.number, RUNS_PER_PULL, lambda some: self._pull_call(some, limit)
        )
        return [
            _pulled(run, answer)
            for run, answer in zip(asked, answers, strict=True)
            if not isinstance(answer, Exception)
        ]

    async def apply(self, applies: Sequence[Apply]) -> list[Applied]:
        """Write each, all of it or nothing; safe to repeat: a second time it is STALE.

        Raises:
            LogUnavailableError: if no answer came at all.
        """
        answers = await self._together(
            applies, lambda apply: apply.keys.partition.number, RUNS_PER_APPLY, self._apply_call
        )
        return [_applied(answer) for answer in answers]

    async def ack(self, notices: Mapping[PartitionKeys, Sequence[bytes]]) -> None:
        """Forget notices whose runs have been looked at.

        Raises:
            LogUnavailableError: if some could not be; they come again.
        """
        commands: list[tuple[Argument, ...]] = [
            ("XACK", partition.changes, self.projection, *ids) for partition, ids in notices.items() if ids
        ]
        for answer in await self.server.execute_many(commands):
            if isinstance(answer, Exception):
                raise answer

    async def walk(self, partition: PartitionKeys) -> AsyncIterator[list[RunKeys]]:
        """Every run of the partition's index, some of them twice, in batches.

        Raises:
            LogUnavailableError: if it can't be reached.
        """
        cursor: Argument = 0
        while True:
            # A script's answer is raw, where the client's own ZSCAN would first make pairs of it.
            answer = await self.server.run(script("scan_index"), [partition.index], [cursor, WALK_COUNT])
            cursor, members = answer
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
        """The operation that sets a fact aside; `reason` must not hold any of its text."""
        fields = {
            "projection": self.projection, "run": keys.member, "fact": str(position),
            "reason": reason, "consumer": self.consumer,
        }  # fmt: skip
        return add(keys.partition.dead_letters(self.projection), "*", fields, most=DEAD_LETTERS_MAX)

    def _pull_call(self, runs: Sequence[RunKeys], limit: int) -> Call:
        keys = [key for run in runs for key in (run.projected(self.projection), run.transcript)]
        return Call(script("pull_facts"), keys, [limit])

    def _apply_call(self, applies: Sequence[Apply]) -> Call:
        keys: list[str] = []
        arguments: list[Argument] = [self._ttl_s]
        for apply in applies:
            own_keys, own_arguments = self._apply_parts(apply)
            keys += own_keys
            arguments += (len(own_keys), len(own_arguments), str(apply.expected), str(apply.new), *own_arguments)
        return Call(script("apply_projection"), keys, arguments)

    def _apply_parts(self, apply: Apply) -> tuple[list[str], list[Argument]]:
        keys = [apply.keys.projected(self.projection), apply.keys.transcript]
        numbers: dict[str, int] = {"": 0}
        arguments: list[Argument] = []
        for op in apply.ops:
            number = numbers.get(op.key)
            if number is None:
                keys.append(op.key)
                number = numbers[op.key] = len(keys)
            arguments += (number, int(op.expires), len(op.arguments), op.command, *op.arguments)
        return keys, arguments

    async def _together(
        self, items: Sequence[T], partition: Callable[[T], int], most: int, call: Callable[[Sequence[T]], Call]
    ) -> list[Any]:
        """Each item's answer or exception, of calls with up to `most` items each.

        Where a script fails at one item the others of its call are asked again, each alone, so that they go on.

        Raises:
            LogUnavailableError: if every call failed by that.
        """
        parts = [
            group[i : i + most]
            for group in self.server.groups(list(enumerate(items)), lambda one: partition(one[1]))
            for i in range(0, len(group), most)
        ]
        found = await self._isolated([call([item for _, item in part]) for part in parts])
        answers: dict[int, Any] = {}
        for part, answer in zip(parts, found, strict=True):
            whole = answer
            if isinstance(answer, LogUnavailableError):
                whole = [answer] * len(part)
            elif isinstance(answer, Exception):
                whole = [await self._first(call([item])) for _, item in part]
            answers.update(zip((number for number, _ in part), whole, strict=True))
        return [answers[number] for number in range(len(items))]

    async def _first(self, call: Call) -> Any:  # noqa: ANN401 - as `_alone`
        answer = await self._alone(call)
        return answer if isinstance(answer, Exception) else answer[0]

    async def _isolated(self, calls: Sequence[Call]) -> list[Any]:
        """Each call's answer or exception: a script that fails on one partition or run leaves the others alone.

        Raises:
            LogUnavailableError: if every call failed by that.
        """
        try:
            answers = await self.server.run_many(calls)
        except ResponseError:
            answers = [await self._alone(call) for call in calls]
        if answers and all(isinstance(answer, LogUnavailableError) for answer in answers):
            raise answers[0]
        return answers

    async def _alone(self, call: Call) -> Any:  # noqa: ANN401 - a script's answer has the script's own shape
        try:
            return await self.server.run(call.script, call.keys, call.arguments)
        except (ResponseError, LogUnavailableError) as error:
            return error


async def trim_changes(server: Server, partitions: Iterable[PartitionKeys], *, most: int) -> dict[str, int]:
    """Free notices that nobody needs, and those above `most`; say how many partitions each projection has to walk now.

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


def _notices(flat: list[bytes]) -> list[tuple[bytes, str]]:
    members = (member.decode(errors="replace") for member in flat[1::2])
    # A notice can be both left over and the consumer's own; each is wanted once.
    return list(dict(zip(flat[::2], members, strict=True)).items())


def _pulled(run: RunKeys, answer: list[Any]) -> Pulled:
    position, flat = answer
    if not position:
        return Pulled(run, Position(0, 0), [], flat.decode(errors="replace"))
    facts = [(Position.parse(entry_id), fact) for entry_id, fact in zip(flat[::2], flat[1::2], strict=True)]
    return Pulled(run, Position.parse(position), facts)


def _applied(answer: Any) -> Applied:  # noqa: ANN401 - the script's answer or an exception
    if isinstance(answer, LogUnavailableError):
        return Applied(Code.UNKNOWN, str(answer))
    if isinstance(answer, Exception):
        return Applied(Code.MISPLACED, f"{type(answer).__name__}: {answer}")
    code, _, reason = answer
    return Applied(Code(code), reason.decode(errors="replace"))
