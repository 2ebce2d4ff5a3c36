"""One session's path into the log: bytes received, cut into entries, kept until acked. No input or output."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from eventlog.appender import Appender, Outcome
from eventlog.codec import encode
from eventlog.events import CONTAINER, AudioEvent, HoleFound, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code
from eventlog.positions import SEALED, Position

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


class Seal(NamedTuple):
    """The end of the session, to be placed after everything received before it."""

    reason: str


class Uplink(Appender):
    """The audio and control events of one session: received, placed, and appended.

    Bytes may come in any pieces, a sample split over two of them included. Entries stay in order; `prepare` returns the
    appends to make now, `settle` takes the log's answers to exactly those.
    """

    __slots__ = (
        "_end", "_pending", "_pending_bytes", "_pending_controls", "_resend_buffer", "_resend_buffer_bytes",
        "_resendable_bytes", "_unacked", "acked_samples", "credit_bytes", "is_sealed", "last_chunk_samples",
        "lost_samples", "received_bytes", "refusal", "resent_entries", "unacked_bytes",
    )  # fmt: skip

    def __init__(
        self, keys: SessionKeys, epoch: int, head: Position, *, frame_bytes: int, resend_buffer_bytes: int
    ) -> None:
        """See `Appender`; keep `resend_buffer_bytes` of acked audio against a log that goes back."""
        super().__init__(keys, epoch, head, frame_bytes=frame_bytes)
        self.acked_samples = head.offset
        """The offset to ack; never goes back, as the head may."""
        self.refusal: Code | None = None
        """Why the log refuses this connection: permanently, or, with STALE, until it resumes the session again."""
        self.is_sealed = False
        """Whether the log has the end."""
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
        self._unacked: deque[Append] = deque()
        self._resend_buffer: deque[Append] = deque()
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
        appends = list(islice(self._unacked, ENTRIES_PER_FLUSH))
        if appends and appends[-1].position.offset > self.credit_bytes:
            for number, append in enumerate(appends):
                if append.is_audio and append.position.offset > self.credit_bytes:
                    return appends[:number]
        return appends

    def settle(self, answers: Sequence[Appended]) -> bool:
        """Take the answers to the appends that `prepare` returned; True if the head moved."""
        before = self.head
        for answer in answers:
            entry = self._unacked[0]
            # Asked here too: OK is the answer to nearly every chunk, and a call per chunk costs.
            if answer.code is not Code.OK and (outcome := self.judge(answer, entry.position)) is not Outcome.DONE:
                if outcome is Outcome.MOVED:
                    self._resend_after(answer.head)
                elif outcome is not Outcome.UNKNOWN:
                    self.refusal = Code.STALE if outcome is Outcome.FORGOTTEN else answer.code
                break
            self._unacked.popleft()
            self.unacked_bytes -= len(entry.payload)
            self.head = entry.position
            if entry.is_audio:
                self.last_chunk_samples = entry.position.offset - entry.after.offset
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
        """Continue under a new epoch, after the log had forgotten this connection's."""
        self.epoch = epoch
        self.refusal = None
        self._resend_after(head)

    def _place_pending(self) -> None:
        """Place audio and control events in the order in which they were received."""
        received, self._pending = self._pending, []
        self._pending_controls = 0
        for item in received:
            if isinstance(item, bytes):
                self._pending.append(item)
                continue
            self._place_audio()
            after = self._unacked[-1].position if self._unacked else self.head
            if isinstance(item, Seal):
                append = self.place_seal(item.reason, after, self._end)
            else:
                append = self.place_event(item, after, self._end)
            self._end = append.position
            self._unacked.append(append)
            self.unacked_bytes += len(append.payload) - CONTROL_BYTES
        self._place_audio()

    def _place_audio(self) -> None:
        """Place the whole samples of the pending bytes; no control event is pending."""
        audio = b"".join(self._pending)  # type: ignore[arg-type] # no controls: all are bytes
        if appends := self.place_audio(audio, self._unacked[-1].position if self._unacked else self.head, self._end):
            self._end = appends[-1].position
            self._unacked += appends
        rest_bytes = len(audio) % self.frame_bytes
        self._pending_bytes -= len(audio) - rest_bytes
        self._pending = [audio[-rest_bytes:]] if rest_bytes else []

    def _resend_after(self, head: Position) -> None:
        """Send again what the log lacks after `head`; samples that are no longer kept become a hole, stated as one."""
        end = self.head.offset
        entries = [*self._resend_buffer, *self._unacked]
        missing = [entry._replace(epoch=self.epoch) for entry in entries if entry.position > head]
        present = [entry for entry in entries if entry.position <= head]
        self.resent_entries += max(0, len(missing) - len(self._unacked))
        if missing:
            first = missing[0]
            end = first.after.offset
            known_bytes = max(0, head.offset - end) * self.frame_bytes if first.is_audio else 0
            missing[0] = first._replace(after=max(head, Position(end, 0)), payload=first.payload[known_bytes:])
        if end > head.offset:
            lost = end - head.offset
            self.lost_samples += lost
            hole = Append(
                self.keys, self.epoch, head, Position(end, 0), encode(HoleFound(samples=lost)), is_audio=False
            )
            missing.insert(0, hole)
        self.head = head
        self.unacked_bytes += sum(len(one.payload) for one in missing) - sum(len(one.payload) for one in self._unacked)
        self._resend_buffer = deque(present)
        self._resendable_bytes = sum(len(one.payload) for one in present)
        self._unacked = deque(missing)
