"""Streams and consumer groups as Redis keeps them, in plain Python; the differential test holds them to a real one."""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import Any

EntryId = tuple[int, int]
LARGEST = 2**64 - 1


class CommandError(Exception):
    """Redis's error reply; the text begins with the error's kind."""


@dataclass(slots=True)
class Pending:
    """An entry that was delivered and not acked."""

    consumer: bytes
    delivered_ms: int
    deliveries: int = 1


@dataclass(slots=True)
class Group:
    """A consumer group: its position, its pending entries, and when each consumer was last seen."""

    last_delivered: EntryId
    pending: dict[EntryId, Pending] = field(default_factory=dict)
    seen_ms: dict[bytes, int] = field(default_factory=dict)

    def sorted_pending(self) -> list[tuple[EntryId, Pending]]:
        """The pending entries, by id."""
        return sorted(self.pending.items())

    def held_by(self, consumer: bytes) -> list[tuple[EntryId, Pending]]:
        """One consumer's pending entries, by id."""
        return [(entry, one) for entry, one in self.sorted_pending() if one.consumer == consumer]


class Stream:
    """One stream: entries by id, and its groups."""

    def __init__(self) -> None:
        self.ids: list[EntryId] = []
        self.fields: dict[EntryId, list[bytes]] = {}
        self.last: EntryId = (0, 0)
        self.groups: dict[bytes, Group] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __bool__(self) -> bool:
        return True  # an empty stream exists, with its groups

    def group(self, name: bytes, key: str) -> Group:
        """The group `name`.

        Raises:
            CommandError: if it doesn't exist.
        """
        if name not in self.groups:
            raise no_group(key, name)
        return self.groups[name]

    def add(self, given: str, fields: list[bytes], now_ms: int) -> bytes:
        """Append an entry; ``*`` takes its id from the clock."""
        entry = self._next(now_ms) if given == "*" else parse(given)
        if entry <= self.last:
            raise CommandError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        insort(self.ids, entry)
        self.fields[entry] = fields
        self.last = entry
        return show(entry)

    def _next(self, now_ms: int) -> EntryId:
        if self.last == (LARGEST, LARGEST):
            raise CommandError("ERR The stream has exhausted the last possible ID, unable to add more items")
        return max((now_ms, 0), (self.last[0], self.last[1] + 1))

    def remove(self, entry: EntryId) -> bool:
        """Delete an entry; returns whether it existed. Groups keep it pending."""
        if entry not in self.fields:
            return False
        del self.fields[entry]
        del self.ids[bisect_left(self.ids, entry)]
        return True

    def between(self, first: EntryId, last: EntryId) -> list[EntryId]:
        """Ids from `first` to `last`, both inclusive."""
        return self.ids[bisect_left(self.ids, first) : bisect_right(self.ids, last)]

    def after(self, entry: EntryId) -> list[EntryId]:
        """Ids that are greater."""
        return self.ids[bisect_right(self.ids, entry) :]

    def keep_last(self, count: int) -> int:
        """Delete the oldest entries beyond `count`; returns how many."""
        return sum(self.remove(entry) for entry in self.ids[: max(0, len(self.ids) - count)])

    def keep_from(self, entry: EntryId) -> int:
        """Delete entries below `entry`; returns how many."""
        return sum(self.remove(one) for one in self.ids[: bisect_left(self.ids, entry)])

    def shown(self, entry: EntryId) -> list[Any]:
        """An entry in a reply; a deleted one has no fields."""
        fields = self.fields.get(entry)
        return [show(entry), None if fields is None else list(fields)]


def no_group(key: str, name: bytes) -> CommandError:
    """The error for a missing group or stream."""
    return CommandError(f"NOGROUP No such key '{key}' or consumer group '{name.decode()}'")


def parse(text: str, *, missing: int = 0) -> EntryId:
    """An entry id; `missing` stands for a sequence that isn't given."""
    if text in ("-", "+"):
        return (0, 0) if text == "-" else (LARGEST, LARGEST)
    offset, separator, sequence = text.partition("-")
    try:
        entry = int(offset), int(sequence) if separator else missing
    except ValueError:
        entry = (-1, 0)
    if not (0 <= entry[0] <= LARGEST and 0 <= entry[1] <= LARGEST):
        raise CommandError("ERR Invalid stream ID specified as stream command argument")
    return entry


def bounds(first: str, last: str) -> tuple[EntryId, EntryId]:
    """A range's ends, both inclusive; ``(`` before one leaves it out."""
    low = parse(first.removeprefix("("))
    high = parse(last.removeprefix("("), missing=LARGEST)
    if first.startswith("("):
        if low == (LARGEST, LARGEST):
            raise CommandError("ERR invalid start ID for the interval")
        low = (low[0], low[1] + 1) if low[1] < LARGEST else (low[0] + 1, 0)
    if last.startswith("("):
        high = (high[0], high[1] - 1) if high[1] else (high[0] - 1, LARGEST)
    return low, high


def show(entry: EntryId) -> bytes:
    """An entry id in a reply."""
    return b"%d-%d" % entry
