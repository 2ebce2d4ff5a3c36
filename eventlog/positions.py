"""Positions: entry ids that give an entry's place in the audio, or in the transcript."""

from __future__ import annotations

from typing import NamedTuple

_LARGEST = 2**64 - 1  # both halves of a Redis stream id are unsigned 64-bit integers


class Position(NamedTuple):
    """A place in a stream, written ``<offset>-<sequence>`` as its entry id.

    In an audio stream `offset` counts samples per channel from the session's start: a chunk's id is the
    offset after it with sequence 0, and control events at that offset take 1, 2, …
    In a transcript stream `offset` counts utterances and a final's id is the count after it.
    """

    offset: int
    sequence: int

    def __str__(self) -> str:
        """The Redis entry id."""
        return f"{self.offset}-{self.sequence}"

    @classmethod
    def parse(cls, entry_id: str | bytes) -> Position:
        """Read a Redis entry id.

        Raises:
            ValueError: if `entry_id` isn't ``<integer>-<integer>``.
        """
        text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
        offset, separator, sequence = text.partition("-")
        if not separator:
            msg = f"not an entry id: {text!r}"
            raise ValueError(msg)
        return cls(int(offset), int(sequence))

    def control(self) -> Position:
        """Return the position of the next entry without audio (or utterance)."""
        return Position(self.offset, self.sequence + 1)

    def advanced(self, count: int) -> Position:
        """Return the position of an entry with `count` samples (or utterances)."""
        return Position(self.offset + count, 0)


START = Position(0, 0)
"""Before every entry; Redis itself refuses this id for one."""

OPENED = Position(0, 1)
"""The first entry of every audio and every transcript stream."""

SEALED = Position(_LARGEST, _LARGEST)
"""The end of a stream: the largest id, so that Redis refuses every later entry."""
