"""What every appender to a session's stream shares: its entries' places, and what the log's answers mean."""

from __future__ import annotations

import enum
from typing import ClassVar

from eventlog.codec import encode
from eventlog.events import AudioEvent, SessionSealed
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code
from eventlog.positions import SEALED, Position

CHUNK_BYTES = 65_536
"""Largest entry: 2 s of 16 kHz mono. A reader bounds its reads by a count of entries, so no entry may be huge."""


class Outcome(enum.Enum):
    """What an answer means for the append that it belongs to, and what its appender does next."""

    DONE = enum.auto()
    """The entry is in the log."""
    UNKNOWN = enum.auto()
    """Perhaps it is: make the very same append again."""
    MOVED = enum.auto()
    """It is not, or not as far as the answer shows: continue from the answer's head."""
    FORGOTTEN = enum.auto()
    """The log forgot the appender's epoch: raise it again."""
    REFUSED = enum.auto()
    """The stream takes nothing more from this appender; the answer's code says why."""


class Appender:
    """One appender's knowledge of a stream: the epoch under which it appends, and the head that it believes in.

    It does no input or output: it places payloads, and judges the answers to their appends.
    """

    __slots__ = ("epoch", "frame_bytes", "head", "keys")

    is_shared: ClassVar[bool] = False
    """Whether other appenders append to the stream under the same epoch."""

    def __init__(self, keys: SessionKeys, epoch: int, head: Position, *, frame_bytes: int) -> None:
        """Continue from `head`; positions count `frame_bytes`: one sample of all channels, or 1 of a container."""
        self.keys = keys
        self.epoch = epoch
        self.head = head
        """The last position known to be in the log."""
        self.frame_bytes = frame_bytes

    def place_audio(self, data: bytes, after: Position, at: Position | None = None) -> list[Append]:
        """Cut the whole frames of `data` into entries that follow the entry `after`; their audio begins at `at`.

        The two differ where the log went back: positions never do, for a reader may already be past them.
        """
        keys, epoch, frame_bytes = self.keys, self.epoch, self.frame_bytes
        offset = (at or after).offset
        whole_bytes = len(data) - len(data) % frame_bytes
        appends = []
        for first in range(0, whole_bytes, CHUNK_BYTES):  # a multiple of every frame's size (1, 2 and 4 bytes)
            payload = data[first : min(first + CHUNK_BYTES, whole_bytes)]
            offset += len(payload) // frame_bytes
            position = Position(offset, 0)
            appends.append(Append(keys, epoch, after, position, payload, True))  # noqa: FBT003 - faster by place
            after = position
        return appends

    def place_event(self, event: AudioEvent, after: Position, at: Position | None = None) -> Append:
        """Place a control event behind `at`; `after` as in `place_audio`."""
        return Append(self.keys, self.epoch, after, (at or after).control(), encode(event), is_audio=False)

    def place_seal(self, reason: str, after: Position, at: Position, detail: str = "") -> Append:
        """Place the end of a stream whose audio ends at `at`."""
        event = SessionSealed(reason=reason, offset_samples=at.offset, detail=detail)
        return Append(self.keys, self.epoch, after, SEALED, encode(event), is_audio=False)

    def judge(self, answer: Appended, position: Position) -> Outcome:
        """Return what `answer` means for this appender's entry at `position`.

        OK is DONE. UNKNOWN stays UNKNOWN: the guard makes the same append harmless.

        The head. Under an exclusive epoch only its holder moves the head. A head at or past the entry therefore means
        that an earlier try wrote it and its answer was lost: DONE. At or past, for later entries of that try may be
        written too. A head before it means that a failover lost entries: MOVED. Of a shared stream the head says
        nothing: another appender's entry may stand at the position, which only a comparison shows: MOVED.

        The epoch. A higher one than the appender's means that a newer appender took over: REFUSED, permanently. A lower
        one is none of a newer appender: a failover lost the raise of the epoch: FORGOTTEN. Appenders that share a
        stream hold no epoch, and continue under whichever is stored: MOVED.

        Any other code is REFUSED: no retry changes a stream that is gone, sealed or broken.
        """
        code = answer.code
        if code is Code.OK:
            return Outcome.DONE
        if code is Code.UNKNOWN:
            return Outcome.UNKNOWN
        if code is Code.MISPLACED or (code is Code.SUPERSEDED and self.is_shared):
            is_own = not self.is_shared and answer.epoch == self.epoch
            return Outcome.DONE if is_own and counts_as_done(answer, position) else Outcome.MOVED
        is_forgotten = code is Code.SUPERSEDED and answer.epoch < self.epoch
        return Outcome.FORGOTTEN if is_forgotten else Outcome.REFUSED


def counts_as_done(answer: Appended, position: Position) -> bool:
    """Whether the holder of an exclusive epoch takes `answer` for a write of its entry at `position`."""
    return answer.code is Code.OK or (answer.code is Code.MISPLACED and answer.head >= position)
