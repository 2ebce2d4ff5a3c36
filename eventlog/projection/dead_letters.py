"""Dead letters: facts and events that a projection gave up, listed, shown, and redriven to their sink."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position
from eventlog.projection.operations import Op, add
from eventlog.projection.projection_log import DEAD_LETTERS_MAX
from eventlog.projection.sink_state import REDRIVEN, wakeup_message
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Call, Server

DEAD_LETTERS_PER_READ = 256
"""Some 60 kB; reading all partitions of a deployment with few letters is one round trip."""

DEAD_LETTERS_PER_REDRIVE = 64
"""In one script call: about 1 ms of Redis's time."""

MOVED, DROPPED, ABSENT, NO_ROOM = 1, 2, 0, 3
"""The answers of `redrive` for a letter: to be sent, facts gone, not found, too many wait already."""


class DeadLetter(NamedTuple):
    """A fact that a projection could not apply, or an event that a sink did not take.

    It never holds speech: the facts do, as long as they last.
    """

    projection: str
    partition: PartitionKeys
    entry_id: str
    keys: RunKeys
    fact: str
    """Position of the fact that it is about."""
    reason: str
    consumer: str
    kind: str = ""
    """Of the event that the sink did not take; empty where the letter is about a fact as such."""
    event_id: str = ""
    attempts: int = 0
    at_ms: int = 0
    """When it was given up, Unix ms."""

    @property
    def id(self) -> str:
        """Its name over all partitions and projections."""
        return f"{self.projection}:{self.partition.number}:{self.entry_id}"

    @property
    def position(self) -> Position:
        """Of its fact; before every fact if the stored one is malformed."""
        try:
            return Position.parse(self.fact)
        except ValueError:
            return START


def dead_letter_op(letter: DeadLetter) -> Op:
    """The operation that appends a new dead letter; Redis gives it its entry id, and its time if it is of a fact."""
    fields: dict[str, str | bytes | int | float] = {
        "projection": letter.projection, "run": letter.keys.member, "fact": letter.fact, "reason": letter.reason,
        "consumer": letter.consumer,
    }  # fmt: skip
    if letter.kind:
        fields |= {"kind": letter.kind, "event_id": letter.event_id, "attempts": letter.attempts, "at_ms": letter.at_ms}
    return add(letter.partition.dead_letters(letter.projection), "*", fields, most=DEAD_LETTERS_MAX)


async def read_dead_letters(server: Server, projections: Iterable[str]) -> AsyncIterator[list[DeadLetter]]:
    """Yield all dead letters of these projections, in pages, the oldest of each partition first.

    Raises:
        LogUnavailableError: if a partition can't be reached.
    """
    places = {(name, partition): "-" for name in projections for partition in server.keys.partitions}
    while places:
        requested = list(places.items())
        answers = await server.execute_many([
            ("XRANGE", partition.dead_letters(name), after, "+", "COUNT", DEAD_LETTERS_PER_READ)
            for (name, partition), after in requested
        ])  # fmt: skip
        for ((name, partition), _), answer in zip(requested, answers, strict=True):
            found = _parse_dead_letters(server, name, partition, answer)
            if found:
                yield found
            if len(found) < DEAD_LETTERS_PER_READ:
                del places[name, partition]
            else:
                places[name, partition] = f"({found[-1].entry_id}"


async def find_dead_letter(server: Server, projection: str, number: int, entry_id: str) -> DeadLetter | None:
    """Find one dead letter; None if it does not exist.

    Raises:
        LogUnavailableError: if its partition can't be reached.
    """
    if number >= len(server.keys.partitions):
        return None
    partition = server.keys.partitions[number]
    entries = await server.execute("XRANGE", partition.dead_letters(projection), entry_id, entry_id)
    found = _parse_dead_letters(server, projection, partition, entries)
    return found[0] if found else None


async def redrive(server: Server, letters: Sequence[DeadLetter]) -> list[int]:
    """Offer dead letters to their sinks once more; their partitions' forwarders send them.

    Returns:
        MOVED, DROPPED, ABSENT or NO_ROOM for each.

    Raises:
        LogUnavailableError: if a partition can't be reached; may be tried again.
    """
    by_stream: dict[tuple[str, int], list[int]] = {}
    for index, letter in enumerate(letters):
        by_stream.setdefault((letter.projection, letter.partition.number), []).append(index)
    parts = [
        group[first : first + DEAD_LETTERS_PER_REDRIVE]
        for group in by_stream.values() for first in range(0, len(group), DEAD_LETTERS_PER_REDRIVE)
    ]  # fmt: skip
    answers = await server.run_many([_redrive_call([letters[index] for index in part]) for part in parts])
    found: dict[int, int] = {}
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, LogUnavailableError):
            raise answer
        found.update(zip(part, answer, strict=True))
    return [found[index] for index in range(len(letters))]


async def read_redriven(server: Server, sink: str, partitions: Sequence[PartitionKeys], most: int) -> list[DeadLetter]:
    """Read the letters to be sent once more, at most `most` of each partition; none of one that can't be reached.

    Raises:
        LogUnavailableError: if none can be reached.
    """
    answers = await server.execute_many([
        ("XRANGE", partition.redriven(sink), "-", "+", "COUNT", most) for partition in partitions
    ])  # fmt: skip
    return [
        letter for partition, answer in zip(partitions, answers, strict=True) if not isinstance(answer, Exception)
        for letter in _parse_dead_letters(server, sink, partition, answer)
    ]  # fmt: skip


async def finish_redrives(
    server: Server, letters: Sequence[DeadLetter], *, consumer: str, ttl_s: int
) -> list[DeadLetter]:
    """Take redriven letters away if they have no reason, else make them dead letters again, with that reason.

    Returns:
        Those that couldn't be reached, to be repeated.

    Raises:
        LogUnavailableError: if none could be.
    """
    answers = await server.run_many([_finish_call(letter, consumer, ttl_s) for letter in letters])
    return [
        letter for letter, answer in zip(letters, answers, strict=True) if isinstance(answer, LogUnavailableError)
    ]


def _redrive_call(letters: Sequence[DeadLetter]) -> Call:
    projection, partition = letters[0].projection, letters[0].partition
    keys = [partition.dead_letters(projection), partition.redriven(projection), partition.changes_wakeup]
    arguments: list[Argument] = [wakeup_message(REDRIVEN, projection), DEAD_LETTERS_MAX]
    return Call(
        script("redrive_dead_letters"), [*keys, *(letter.keys.transcript for letter in letters)],
        [*arguments, *(letter.entry_id for letter in letters)],
    )  # fmt: skip


def _finish_call(letter: DeadLetter, consumer: str, ttl_s: int) -> Call:
    partition, sink = letter.partition, letter.projection
    return Call(
        script("settle_redriven_letter"),
        [partition.redriven(sink), partition.dead_letters(sink), letter.keys.transcript],
        [letter.entry_id, letter.reason, letter.attempts, letter.at_ms, consumer, DEAD_LETTERS_MAX, ttl_s],
    )


def _parse_dead_letters(server: Server, projection: str, partition: PartitionKeys, answer: object) -> list[DeadLetter]:
    if isinstance(answer, Exception):
        raise answer
    if not isinstance(answer, list):
        return []
    return [_parse_dead_letter(server, projection, partition, entry_id.decode(), fields) for entry_id, fields in answer]


def _parse_dead_letter(
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
