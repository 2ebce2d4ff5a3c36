"""The shadow copy of one run's read model during a rebuild: the operations that make it, and those of its swap."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.events import SessionEnded
from eventlog.positions import START
from eventlog.projection.operations import Op
from eventlog.projection.projection_log import RunFacts
from eventlog.projection.rebuild import PARTS, CopiedPart, ListingEntry, RebuiltKeys, Swap

_MS = 1000
_PUBLISHING = ("SPUBLISH", "PUBLISH")


class ShadowCopy:
    """The copy of one run's read model, as far as it has been made."""

    def __init__(self, keys: RebuiltKeys, projection: str) -> None:
        """Nothing of it exists yet."""
        self.keys = keys
        self.chases = 0
        """How often the old one had more facts when they were to be swapped."""
        self.contests = 0
        """How often another rebuild had written to it."""
        self.rests_until = 0.0
        """By the event loop's clock."""
        self._parts = {keys.copy(name): name for name in PARTS[projection]}
        self._dead_letters_key = keys.partition.dead_letters(projection)
        self.restart()

    def restart(self) -> None:
        """Begin again, from the first fact on."""
        self.is_started = False
        self.has_more = True
        self.position = START
        self.events = 0
        self.dead_letters: list[Op] = []
        self._made: set[str] = set()
        self._due_ms: dict[str, int] = {}
        self._listings: dict[str, ListingEntry] = {}
        self._messages: dict[tuple[str, str], Op] = {}

    def keep(self, pulled: RunFacts, ops: Sequence[Op]) -> list[Op]:
        """Return the operations that make the copy; those on shared keys are kept for the swap.

        Listeners have already received the messages, so only the last one is kept, in case that the old one was behind.
        """
        own: list[Op] = []
        for op in ops:
            part = self._parts.get(op.key)
            if op.command in _PUBLISHING:
                self._messages[op.command, op.key] = op
            elif op.key == self._dead_letters_key:
                self.dead_letters.append(op)
            elif part is None:
                self._keep_listing(op)
            elif op.command == "EXPIRE":
                # Counted from the end itself, or a rebuild would bring back messages that have expired since.
                ends_ms = (fact.ended_ms for _, fact in pulled.facts if isinstance(fact, SessionEnded))
                self._due_ms[part] = max(ends_ms, default=0) + _MS * int(op.arguments[0])
            else:
                self._made.add(part)
                own.append(op)
        return own

    def _keep_listing(self, op: Op) -> None:
        """The last operation on a listing counts; the removal of other runs by their age doesn't concern this one."""
        if op.command == "ZADD":
            self._listings[op.key] = ListingEntry(op.key, float(op.arguments[0]), op.expires, str(op.arguments[1]))
        elif op.command == "ZREM":
            self._listings[op.key] = ListingEntry(op.key, None, expires=False, member=str(op.arguments[0]))

    def swap(self, dead_letter_ids: Sequence[str]) -> Swap:
        """The swap that puts the copy in the place of the old read model."""
        parts = [CopiedPart(name, name in self._made, self._due_ms.get(name, 0)) for name in self._parts.values()]
        return Swap(
            self.keys, self.position, parts, list(self._listings.values()), list(self._messages.values()),
            self.dead_letters, dead_letter_ids,
        )  # fmt: skip
