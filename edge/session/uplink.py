"""One session's path into the log: bytes received, cut into entries, kept until acked. No input or output."""

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
"""Largest entry: 2 s of 16 kHz mono. A reader bounds its reads by a count of entries, so no entry may be huge."""

INITIAL_CREDIT_BYTES = 1_048_576
"""Of every upload may be appended before any credit is read: the least that a deployment can allow, and more than most
uploads have."""

ENTRIES_PER_FLUSH = 64
"""Of one session: 4 MiB of the largest chunks. More waits for the next flush."""

BYTES_PER_SAMPLE = 2  # linear16

CONTROL_BYTES = 256
"""What a control event that waits counts as: about the size of its object."""


def frame_bytes_of(start: SessionStarted) -> int:
    """What a stream's positions count: bytes of a container, else samples of all channels."""
    return 1 if start.encoding == CONTAINER else BYTES_PER_SAMPLE * start.channels


class Entry(NamedTuple):
    """One placed entry: it starts at `start` samples and ends at its position."""

    start: int
    position: Position
    payload: bytes
    is_audio: bool


class Seal(NamedTuple):
    """The end of the session, to be placed after everything received before it."""

    reason: str


class Uplink:
    """The audio and control events of one session: received, placed, and appended.

    Bytes may come in any pieces, a sample split over two of them included. Entries stay in order; `prepare` returns the
    appends to make now, `settle` takes the log's answers to exactly those.
    """

    __slots__ = (
        "_end", "_pending", "_pending_bytes", "_pending_controls", "_resend_buffer", "_resend_buffer_bytes",
        "_resendable_bytes", "_unacked", "acked_samples", "credit_bytes", "epoch", "frame_bytes", "head", "is_sealed",
        "keys", "last_chunk_samples", "lost_samples", "received_bytes", "refusal", "resent_entries", "unacked_bytes",
    )  # fmt: skip

    def __init__(
        self, keys: SessionKeys, epoch: int, head: Position, *, frame_bytes: int, resend_buffer_bytes: int
    ) -> None:
        """Go on from the log's `head`; keep `resend_buffer_bytes` of acked audio against a log that goes back.

        Positions count `frame_bytes`: one sample of all channels, or 1 where a container's bytes come.
        """
        self.keys = keys
        self.epoch = epoch
        self.head = head
        """The last position known to be in the log."""
        self.acked_samples = head.offset
        """The offset to ack; never goes back, as the head may."""
        self.refusal: Code | None = None
        """Why the log refuses this connection: for good, or, with STALE, until it resumes the session again."""
        self.is_sealed = False
        """Whether the log has the end."""
        self.frame_bytes = frame_bytes
        self.received_bytes = 0
        self.unacked_bytes = 0
        """Memory held by everything received and not known to be in the log; below `frame_bytes` nothing can be
        appended: an incomplete sample waits for its rest."""
        self.last_chunk_samples = 0
        self.resent_entries = 0
        """Entries sent again because the log went back."""
        self.lost_samples = 0
        """Samples that the log lost and that the resend buffer no longer held."""
        self.credit_bytes = INITIAL_CREDIT_BYTES if frame_bytes == 1 else sys.maxsize
        """Up to where a container may be appended, as last read."""
        self._pending: list[bytes | AudioEvent | Seal] = []
        self._pending_bytes = 0
        self._pending_controls = 0
        self._end = head
        """Where the last placed entry ends."""
        self._unacked: deque[Entry] = deque()
        self._resend_buffer: deque[Entry] = deque()
        self._resendable_bytes = 0
        self._resend_buffer_bytes = resend_buffer_bytes

    @property
    def misaligned_bytes(self) -> int:
        """Bytes received past the last whole sample of all channels."""
        return self.received_bytes % self.frame_bytes

    @property
    def has_audio(self) -> bool:
        """Whether audio is to be appended, and not control events alone."""
        return self._pending_bytes >= self.frame_bytes or any(entry.is_audio for entry in self._unacked)

    @property
    def is_out_of_credit(self) -> bool:
        """Whether the next entry is audio past `credit_bytes`."""
        first = self._unacked[0] if self._unacked else None
        return first is not None and first.is_audio and first.position.offset > self.credit_bytes

    def add_audio(self, data: bytes) -> None:
        """Take PCM, or a container's bytes."""
        size = len(data)
        self._pending.append(data)
        self._pending_bytes += size
        self.unacked_bytes += size
        self.received_bytes += size

    def add_control(self, event: AudioEvent | Seal) -> None:
        """Take a control event, to be placed after the audio taken so far."""
        self._pending.append(event)
        self._pending_controls += 1
        self.unacked_bytes += CONTROL_BYTES

    def prepare(self) -> list[Append]:
        """Return the appends to make now, in order: until settled the same again, and later ones after them."""
        if self._pending_controls:
            self._place_pending()
        elif self._pending:
            self._place_audio()
        after = self.head
        appends = []
        for entry in islice(self._unacked, ENTRIES_PER_FLUSH):
            if entry.is_audio and entry.position.offset > self.credit_bytes:
                break
            appends.append(Append(self.keys, self.epoch, after, entry.position, entry.payload, entry.is_audio))
            after = entry.position
        return appends

    def settle(self, answers: Sequence[Appended]) -> bool:
        """Take the answers to the appends that `prepare` returned; True if the head moved."""
        before = self.head
        for answer in answers:
            entry = self._unacked[0]
            if answer.code is not Code.OK and not (
                answer.code is Code.MISPLACED and answer.epoch == self.epoch and answer.head >= entry.position
            ):
                self._take_refusal(answer)
                break
            self._unacked.popleft()
            self.unacked_bytes -= len(entry.payload)
            self.head = entry.position
            if entry.is_audio:
                self.last_chunk_samples = entry.position.offset - entry.start
                self.acked_samples = max(self.acked_samples, entry.position.offset)
            elif entry.position == SEALED:
                self.is_sealed = True
                continue
            self._resend_buffer.append(entry)
            self._resendable_bytes += len(entry.payload)
            while self._resendable_bytes > self._resend_buffer_bytes and self._resend_buffer:
                self._resendable_bytes -= len(self._resend_buffer.popleft().payload)
        return self.head != before

    def resume(self, epoch: int, head: Position) -> None:
        """Go on under a new epoch, after the log had forgotten this connection's."""
        self.epoch = epoch
        self.refusal = None
        self._resend_after(head)

    def _take_refusal(self, answer: Appended) -> None:
        if answer.code is Code.UNKNOWN:
            return
        if answer.code is Code.MISPLACED:
            self._resend_after(answer.head)
        else:
            # A lower epoch than ours: the log forgot that we resumed, which is no newer connection.
            is_forgotten = answer.code is Code.SUPERSEDED and answer.epoch < self.epoch
            self.refusal = Code.STALE if is_forgotten else answer.code

    def _place_pending(self) -> None:
        """Place audio and control events in the order in which they were received."""
        received, self._pending = self._pending, []
        self._pending_controls = 0
        for item in received:
            if isinstance(item, bytes):
                self._pending.append(item)
                continue
            self._place_audio()
            offset = self._end.offset
            if isinstance(item, Seal):
                self._end = SEALED
                payload = encode(SessionSealed(reason=item.reason, offset_samples=offset))
            else:
                self._end = self._end.control()
                payload = encode(item)
            self._unacked.append(Entry(offset, self._end, payload, is_audio=False))
            self.unacked_bytes += len(payload) - CONTROL_BYTES
        self._place_audio()

    def _place_audio(self) -> None:
        """Place the whole samples of the pending bytes; no control event is pending."""
        audio = b"".join(self._pending)  # type: ignore[arg-type] # no controls: all are bytes
        end = len(audio) - len(audio) % self.frame_bytes
        step = CHUNK_BYTES - CHUNK_BYTES % self.frame_bytes
        for first in range(0, end, step):
            payload = audio[first : min(first + step, end)] if end != len(audio) or end > step else audio
            start = self._end.offset
            self._end = self._end.advanced(len(payload) // self.frame_bytes)
            self._unacked.append(Entry(start, self._end, payload, is_audio=True))
        self._pending_bytes -= end
        self._pending = [audio[end:]] if end != len(audio) else []

    def _resend_after(self, head: Position) -> None:
        """Send again what the log lacks after `head`; samples that are no longer kept become a hole, stated as one."""
        end = self.head.offset
        entries = [*self._resend_buffer, *self._unacked]
        missing = [entry for entry in entries if entry.position > head]
        present = [entry for entry in entries if entry.position <= head]
        self.resent_entries += max(0, len(missing) - len(self._unacked))
        if missing:
            end = missing[0].start
            missing[0] = self._without_beginning(missing[0], head)
        if end > head.offset:
            lost = end - head.offset
            self.lost_samples += lost
            missing.insert(0, Entry(head.offset, Position(end, 0), encode(HoleFound(samples=lost)), is_audio=False))
        self.head = head
        self.unacked_bytes += sum(len(one.payload) for one in missing) - sum(len(one.payload) for one in self._unacked)
        self._resend_buffer = deque(present)
        self._resendable_bytes = sum(len(one.payload) for one in present)
        self._unacked = deque(missing)

    def _without_beginning(self, entry: Entry, head: Position) -> Entry:
        present = head.offset - entry.start
        if present <= 0 or not entry.is_audio:
            return entry
        return entry._replace(start=head.offset, payload=entry.payload[present * self.frame_bytes :])
