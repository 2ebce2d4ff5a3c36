"""Dead letters: what a projection couldn't apply or forward, listed, looked at, and offered to a sink once more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position
from eventlog.projection.operations import Op, add
from eventlog.projection.projection_log import DEAD_LETTERS_MAX
from eventlog.projection.sink_state import REDRIVEN, message
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Call, Server

LETTERS_PER_READ = 256
"""Some 60 kB; a look at all partitions of a deployment with few letters is one round trip."""

LETTERS_PER_REDRIVE = 64
"""In one script call: about 1 ms of Redis's time."""

MOVED, DROPPED, ABSENT, NO_ROOM = 1, 2, 0, 3
"""What `redrive` answers for a letter."""


class DeadLetter(NamedTuple):
    """Something that was set aside. It never holds what was said: the facts do, as long as they last."""

    projection: str
    partition: PartitionKeys
    entry_id: str
    keys: RunKeys
    fact: str
    """Position of the fact that it is about."""
    reason: str
    consumer: str
    kind: str = ""
    """Of the event that a sink wasn't told; empty where it is about a fact as such."""
    event_id: str = ""
    attempts: int = 0
    at_ms: int = 0
    """When it was set aside, Unix ms."""

    @property
    def id(self) -> str:
        """Its name over all partitions and projections."""
        return f"{self.projection}:{self.partition.number}:{self.entry_id}"

    @property
    def position(self) -> Position:
        """Of its fact; where none stands if what is written there is none of ours."""
        try:
            return Position.parse(self.fact)
        except ValueError:
            return START


class Refusal(NamedTuple):
    """An event that is not tried any longer, and why."""

    keys: RunKeys
    position: Position
    reason: str
    kind: str
    event_id: str
    attempts: int
    at_ms: int


def dead_letter(sink: str, consumer: str, refusal: Refusal) -> Op:
    """The operation that makes a dead letter of an event."""
    fields: dict[str, str | bytes | int | float] = {
        "projection": sink, "run": refusal.keys.member, "fact": str(refusal.position), "reason": refusal.reason,
        "consumer": consumer, "kind": refusal.kind, "event_id": refusal.event_id, "attempts": refusal.attempts,
        "at_ms": refusal.at_ms,
    }  # fmt: skip
    return add(refusal.keys.partition.dead_letters(sink), "*", fields, most=DEAD_LETTERS_MAX)


async def dead_letters(server: Server, projections: Iterable[str]) -> AsyncIterator[list[DeadLetter]]:
    """All dead letters of these projections, in pages, the oldest of each partition first.

    Raises:
        LogUnavailableError: if a partition can't be reached.
    """
    places = {(name, partition): "-" for name in projections for partition in server.keys.partitions}
    while places:
        asked = list(places.items())
        answers = await server.execute_many([
            ("XRANGE", partition.dead_letters(name), after, "+", "COUNT", LETTERS_PER_READ)
            for (name, partition), after in asked
        ])  # fmt: skip
        for ((name, partition), _), answer in zip(asked, answers, strict=True):
            found = _letters(server, name, partition, answer)
            if found:
                yield found
            if len(found) < LETTERS_PER_READ:
                del places[name, partition]
            else:
                places[name, partition] = f"({found[-1].entry_id}"


async def find_letter(server: Server, projection: str, number: int, entry_id: str) -> DeadLetter | None:
    """One dead letter, None if there is none.

    Raises:
        LogUnavailableError: if its partition can't be reached.
    """
    if number >= len(server.keys.partitions):
        return None
    partition = server.keys.partitions[number]
    entries = await server.execute("XRANGE", partition.dead_letters(projection), entry_id, entry_id)
    found = _letters(server, projection, partition, entries)
    return found[0] if found else None


async def redrive(server: Server, letters: Sequence[DeadLetter]) -> list[int]:
    """Have letters of sinks sent once more by whoever forwards their partitions; what became of each.

    Raises:
        LogUnavailableError: if a partition can't be reached; may be tried again.
    """
    apart: dict[tuple[str, int], list[int]] = {}
    for index, letter in enumerate(letters):
        apart.setdefault((letter.projection, letter.partition.number), []).append(index)
    parts = [
        group[first : first + LETTERS_PER_REDRIVE]
        for group in apart.values() for first in range(0, len(group), LETTERS_PER_REDRIVE)
    ]  # fmt: skip
    answers = await server.run_many([_redrive_call([letters[index] for index in part]) for part in parts])
    found: dict[int, int] = {}
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, LogUnavailableError):
            raise answer
        found.update(zip(part, answer, strict=True))
    return [found[index] for index in range(len(letters))]


async def read_redriven(server: Server, sink: str, partitions: Sequence[PartitionKeys], most: int) -> list[DeadLetter]:
    """Letters that are to be sent once more, at most `most` of each partition; none of those that can't be reached.

    Raises:
        LogUnavailableError: if none can be reached.
    """
    answers = await server.execute_many([
        ("XRANGE", partition.redriven(sink), "-", "+", "COUNT", most) for partition in partitions
    ])  # fmt: skip
    return [
        letter for partition, answer in zip(partitions, answers, strict=True) if not isinstance(answer, Exception)
        for letter in _letters(server, sink, partition, answer)
    ]  # fmt: skip


class Settlement(NamedTuple):
    """What became of a redriven letter."""

    letter: DeadLetter
    refusal: Refusal | None
    """Why it is set aside again; None if it was sent, or is of no use any more."""


async def settle_redriven(
    server: Server, consumer: str, settled: Sequence[Settlement], *, ttl_s: int
) -> list[Settlement]:
    """Take redriven letters away, or set them aside again; answers those that couldn't be reached, to be repeated.

    Raises:
        LogUnavailableError: if none could be.
    """
    answers = await server.run_many([_settle_call(one, consumer, ttl_s) for one in settled])
    return [
        one for one, answer in zip(settled, answers, strict=True) if isinstance(answer, LogUnavailableError)
    ]


def _redrive_call(letters: Sequence[DeadLetter]) -> Call:
    projection, partition = letters[0].projection, letters[0].partition
    keys = [partition.dead_letters(projection), partition.redriven(projection), partition.changes_wakeup]
    arguments: list[Argument] = [message(REDRIVEN, projection), DEAD_LETTERS_MAX]
    return Call(
        script("redrive_dead_letters"), [*keys, *(letter.keys.transcript for letter in letters)],
        [*arguments, *(letter.entry_id for letter in letters)],
    )  # fmt: skip


def _settle_call(settled: Settlement, consumer: str, ttl_s: int) -> Call:
    letter, refusal = settled
    partition, sink = letter.partition, letter.projection
    told: list[Argument] = ["", 0, 0] if refusal is None else [refusal.reason, refusal.attempts, refusal.at_ms]
    return Call(
        script("settle_redriven_letter"),
        [partition.redriven(sink), partition.dead_letters(sink), letter.keys.transcript],
        [letter.entry_id, *told, consumer, DEAD_LETTERS_MAX, ttl_s],
    )


def _letters(server: Server, projection: str, partition: PartitionKeys, answer: object) -> list[DeadLetter]:
    if isinstance(answer, Exception):
        raise answer
    if not isinstance(answer, list):
        return []
    return [_letter(server, projection, partition, entry_id.decode(), fields) for entry_id, fields in answer]


def _letter(
    server: Server, projection: str, partition: PartitionKeys, entry_id: str, flat: Sequence[bytes]
) -> DeadLetter:
    texts = [part.decode(errors="replace") for part in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=False))
    return DeadLetter(
        projection, partition, entry_id, server.keys.of_run(fields.get("run", "")), fields.get("fact", ""),
        fields.get("reason", ""), fields.get("consumer", ""), fields.get("kind", ""), fields.get("event_id", ""),
        _number(fields.get("attempts", "")), _number(fields.get("at_ms", "")) or _number(entry_id.partition("-")[0]),
    )  # fmt: skip


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
