"""What a projection's fold leads to, sorted for a rebuild: what goes into the copy now, and what waits for the swap."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.events import SessionEnded
from eventlog.positions import START, Position
from eventlog.projection.operations import Op
from eventlog.projection.rebuild import PARTS, Copied, Place, RebuiltKeys, Swap
from projections.projection import Batch

_MS = 1000
_PUBLISHING = ("SPUBLISH", "PUBLISH")


class ShadowCopy:
    """The copy of one run's read model, as far as it has been made."""

    def __init__(self, keys: RebuiltKeys, projection: str) -> None:
        """Nothing of it is there yet."""
        self.keys = keys
        self.chases = 0
        """How often the old one had more facts when they were to be swapped."""
        self.contests = 0
        """How often somebody else was found at it."""
        self.rests_until = 0.0
        """By the event loop's clock."""
        self._parts = {keys.copy(name): name for name in PARTS[projection]}
        self._letters_key = keys.partition.dead_letters(projection)
        self.restart()

    def restart(self) -> None:
        """Begin anew, from the first fact on."""
        self.is_begun = False
        self.has_more = True
        self.position = START
        self.events = 0
        self.letters: list[Op] = []
        self._made: set[str] = set()
        self._due_ms: dict[str, int] = {}
        self._places: dict[str, Place] = {}
        self._messages: dict[tuple[str, str], Op] = {}

    def sorted_out(self, batch: Batch, ops: Sequence[Op]) -> list[Op]:
        """The operations that make the copy; what is everybody's waits until it takes the old one's place.

        Listeners have heard of what is past, so only the last message is kept, in case that the old one was behind.
        """
        mine: list[Op] = []
        for op in ops:
            if op.command in _PUBLISHING:
                self._messages[op.command, op.key] = op
            elif op.key in self._parts:
                mine += self._own(batch, op)
            elif op.key == self._letters_key:
                self.letters.append(op)
            else:
                self._rank(op)
        return mine

    def swap(self, old_letters: Sequence[str]) -> Swap:
        """What is to take the place of the old one."""
        parts = [Copied(name, name in self._made, self._due_ms.get(name, 0)) for name in self._parts.values()]
        return Swap(
            self.keys, self.position, parts, list(self._places.values()), list(self._messages.values()), self.letters,
            old_letters,
        )  # fmt: skip

    def _own(self, batch: Batch, op: Op) -> list[Op]:
        part = self._parts[op.key]
        if op.command != "EXPIRE":
            self._made.add(part)
            return [op]
        # Counted from the end itself, or a rebuild would bring back what has expired since.
        ended_ms = max((fact.ended_ms for _, fact in batch.facts if isinstance(fact, SessionEnded)), default=0)
        self._due_ms[part] = ended_ms + _MS * int(op.arguments[0])
        return []

    def _rank(self, op: Op) -> None:
        """The last word on a listing counts; what it drops of others by their age is no matter of this run."""
        if op.command == "ZADD":
            self._places[op.key] = Place(op.key, float(op.arguments[0]), op.expires, str(op.arguments[1]))
        elif op.command == "ZREM":
            self._places[op.key] = Place(op.key, None, expires=False, member=str(op.arguments[0]))


def is_behind(swapped: Position, copy: ShadowCopy) -> bool:
    """Whether the old read model had less than its copy."""
    return swapped < copy.position
