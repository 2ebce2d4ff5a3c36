"""One session's way into the log: bytes gathered, cut into entries, kept until the log has them. No input or output."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from eventlog.codec import encode
from eventlog.events import CONTAINER, AudioEvent, HoleFound, SessionSealed, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code
from eventlog.positions import SEALED, Position

CHUNK_BYTES = 65_536
"""Largest entry: 2 s of 16 kHz mono. A reader bounds its reads by a count of entries, so none may be huge."""

FIRST_BYTES = 1_048_576
"""Of every upload may come before anybody asks: the least that a deployment can allow, and more than most are long."""

ENTRIES_PER_FLUSH = 64
"""Of one session: 4 MiB of the largest chunks. More waits for the next flush."""

BYTES_PER_SAMPLE = 2  # linear16

CONTROL_BYTES = 256
"""What a control event that waits is counted as: about the size of its object."""


def frame_bytes_of(start: SessionStarted) -> int:
    """What a stream's positions count: bytes of a container, else samples of all channels."""
    return 1 if start.encoding == CONTAINER else BYTES_PER_SAMPLE * start.channels


class Entry(NamedTuple):
    """One entry, placed: it starts at `start` samples and ends at its position."""

    start: int
    position: Position
    payload: bytes
    is_audio: bool


class Seal(NamedTuple):
    """The end, to be placed after everything that came before it."""

    reason: str


class Uplink:
    """What a session has received, placed and got into the log.

    Bytes may come in any pieces, a sample split over two of them included. Entries stay in order; `prepare` gives what
    is to be appended now, `settle` takes the log's answers to exactly that.
    """

    __slots__ = (
        "_controls", "_frame_bytes", "_kept", "_kept_bytes", "_pending", "_pending_bytes", "_refill_bytes", "_tail",
        "_unsettled", "_unsettled_bytes", "acked_samples", "credit_bytes", "epoch", "head", "keys",
        "last_chunk_samples", "lost_samples", "outcome", "received_bytes", "refilled", "sealed",
    )  # fmt: skip

    def __init__(
        self, keys: SessionKeys, epoch: int, head: Position, *, frame_bytes: int, refill_bytes: int
    ) -> None:
        """Go on from the log's `head`; `refill_bytes` of acked audio are kept against a log that goes back.

        Positions count `frame_bytes`: one sample of all channels, or 1 where a container's bytes come.
        """
        self.keys = keys
        self.epoch = epoch
        self.head = head
        """The last position known to be in the log."""
        self.acked_samples = head.offset
        """What the client may be told; never goes back, as the head may."""
        self.outcome = Code.OK
        """Anything else: the log refuses this connection for good, or (SUPERSEDED by a lower epoch) wants a resume."""
        self.sealed = False
        """The log has the end."""
        self.received_bytes = 0
        self.last_chunk_samples = 0
        self.refilled = 0
        """Entries sent again because the log went back."""
        self.lost_samples = 0
        """Samples that the log lost and that were no longer kept."""
        self.credit_bytes = FIRST_BYTES if frame_bytes == 1 else sys.maxsize
        """Up to where a container may be appended, as far as was asked."""
        self._frame_bytes = frame_bytes
        self._refill_bytes = refill_bytes
        self._pending: list[bytes | AudioEvent | Seal] = []
        self._pending_bytes = 0
        self._controls = 0
        self._tail = head
        self._unsettled: deque[Entry] = deque()
        self._unsettled_bytes = 0
        self._kept: deque[Entry] = deque()
        self._kept_bytes = 0

    @property
    def unacked_bytes(self) -> int:
        """Memory held by what was received and is not yet known to be in the log."""
        return self._pending_bytes + self._unsettled_bytes + self._controls * CONTROL_BYTES

    @property
    def odd_bytes(self) -> int:
        """Bytes received past the last whole sample of all channels."""
        return self.received_bytes % self._frame_bytes

    @property
    def idle(self) -> bool:
        """There is nothing to append."""
        return not self._unsettled and not self._controls and self._pending_bytes < self._frame_bytes

    @property
    def has_audio(self) -> bool:
        """Whether audio is to be appended, and not control events alone."""
        return self._pending_bytes >= self._frame_bytes or any(entry.is_audio for entry in self._unsettled)

    @property
    def is_held(self) -> bool:
        """What comes next must not be appended yet."""
        return bool(self._unsettled) and (
            self._unsettled[0].is_audio and self._unsettled[0].position.offset > self.credit_bytes
        )

    def add_audio(self, data: bytes) -> None:
        """Take PCM."""
        size = len(data)
        self._pending.append(data)
        self._pending_bytes += size
        self.received_bytes += size

    def add_control(self, event: AudioEvent | Seal) -> None:
        """Take a control event, to be placed after the audio taken so far."""
        self._pending.append(event)
        self._controls += 1

    def prepare(self) -> list[Append]:
        """What is to be appended now, in order; the same again, and what came since, until it is settled."""
        if self._pending:
            self._place_pending()
        after = self.head
        appends = []
        for entry in islice(self._unsettled, ENTRIES_PER_FLUSH):
            if entry.is_audio and entry.position.offset > self.credit_bytes:
                break
            appends.append(Append(self.keys, self.epoch, after, entry.position, entry.payload, entry.is_audio))
            after = entry.position
        return appends

    def settle(self, answers: Sequence[Appended]) -> bool:
        """Take the answers to what `prepare` gave; True if the head moved."""
        before = self.head
        for answer in answers:
            if answer.code is Code.OK or (
                answer.code is Code.MISPLACED
                and answer.epoch == self.epoch
                and answer.head >= self._unsettled[0].position
            ):
                self._acked()
            else:
                self._refused(answer)
                break
        return self.head != before

    def resumed(self, epoch: int, head: Position) -> None:
        """Go on under a new epoch, after the log had forgotten this connection's."""
        self.epoch = epoch
        self.outcome = Code.OK
        self._rebase(head)

    def _refused(self, answer: Appended) -> None:
        if answer.code is Code.UNKNOWN:
            return
        if answer.code is Code.MISPLACED:
            self._rebase(answer.head)
        else:
            self.outcome = answer.code
            # A lower epoch than ours: the log forgot that we resumed, which is no newer connection.
            if answer.code is Code.SUPERSEDED and answer.epoch < self.epoch:
                self.outcome = Code.STALE

    def _acked(self) -> None:
        entry = self._unsettled.popleft()
        size = len(entry.payload)
        self._unsettled_bytes -= size
        self.head = entry.position
        if entry.is_audio:
            self.last_chunk_samples = entry.position.offset - entry.start
            self.acked_samples = max(self.acked_samples, entry.position.offset)
        elif entry.position == SEALED:
            self.sealed = True
            return
        self._kept.append(entry)
        self._kept_bytes += size
        while self._kept_bytes > self._refill_bytes and self._kept:
            self._kept_bytes -= len(self._kept.popleft().payload)

    def _place_pending(self) -> None:
        taken, self._pending = self._pending, []
        if not self._controls:
            self._place_audio(b"".join(taken))  # type: ignore[arg-type] # no controls: all are bytes
            return
        self._controls = 0
        run: list[bytes] = []
        for item in taken:
            if isinstance(item, bytes):
                run.append(item)
                continue
            self._place_audio(b"".join(run))
            run = [rest for rest in self._pending if isinstance(rest, bytes)]
            self._pending.clear()
            self._place_control(item)
        self._place_audio(b"".join(run))

    def _place_audio(self, pcm: bytes) -> None:
        whole = len(pcm) - len(pcm) % self._frame_bytes
        step = CHUNK_BYTES - CHUNK_BYTES % self._frame_bytes
        for first in range(0, whole, step):
            payload = pcm[first : min(first + step, whole)] if whole != len(pcm) or whole > step else pcm
            start = self._tail.offset
            self._tail = self._tail.advanced(len(payload) // self._frame_bytes)
            self._unsettled.append(Entry(start, self._tail, payload, is_audio=True))
        self._unsettled_bytes += whole
        self._pending_bytes -= whole
        if whole != len(pcm):
            self._pending.append(pcm[whole:])

    def _place_control(self, item: AudioEvent | Seal) -> None:
        offset = self._tail.offset
        if isinstance(item, Seal):
            self._tail = SEALED
            payload = encode(SessionSealed(reason=item.reason, offset_samples=offset))
        else:
            self._tail = self._tail.control()
            payload = encode(item)
        self._unsettled.append(Entry(offset, self._tail, payload, is_audio=False))
        self._unsettled_bytes += len(payload)

    def _rebase(self, head: Position) -> None:
        """Send again what the log lacks after `head`; what is no longer there becomes a hole, told as such."""
        end = self.head.offset
        entries = [*self._kept, *self._unsettled]
        missing = [entry for entry in entries if entry.position > head]
        kept = [entry for entry in entries if entry.position <= head]
        self.refilled += max(0, len(missing) - len(self._unsettled))
        if missing:
            end = missing[0].start
            missing[0] = self._without_beginning(missing[0], head)
        if end > head.offset:
            lost = end - head.offset
            self.lost_samples += lost
            missing.insert(0, Entry(head.offset, Position(end, 0), encode(HoleFound(samples=lost)), is_audio=False))
        self.head = head
        self._kept = deque(kept)
        self._unsettled = deque(missing)
        self._kept_bytes = sum(len(entry.payload) for entry in kept)
        self._unsettled_bytes = sum(len(entry.payload) for entry in missing)

    def _without_beginning(self, entry: Entry, head: Position) -> Entry:
        there = head.offset - entry.start
        if there <= 0 or not entry.is_audio:
            return entry
        return entry._replace(start=head.offset, payload=entry.payload[there * self._frame_bytes :])
