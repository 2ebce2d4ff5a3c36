"""Cuts an audio stream's entries into parts: the same entries make the same parts, in any portions. Pure."""

from __future__ import annotations

import msgspec

from eventlog.archive.manifest import Line
from eventlog.codec import UndecodableEventError, decode_audio_event
from eventlog.events import HoleFound, SessionSealed
from eventlog.log import AudioEntry
from eventlog.positions import Position

_SAMPLE_BYTES = 2


class PartCutter:
    """Collects one part: samples from its start to before its end, and the control events after its start.

    An event at the end itself belongs to the next part, but for a hole that ends there.

    The last part, the one with the session's end in it, has all events from its start on. Where a session ends just at
    a cut, that is one more part without samples.
    """

    def __init__(self, number: int, part_samples: int, channels: int) -> None:
        """Start part `number` of a session that is cut every `part_samples` samples."""
        self.number = number
        self.start_samples = number * part_samples
        self.end_samples = self.start_samples + part_samples
        self.spans: list[tuple[int, int]] = []
        self.events: list[Line] = []
        self.cursor = Position(self.start_samples, 0)
        """Read on after this entry."""
        self.is_complete = False
        """Whether no later entry belongs to it."""
        self.sealed: SessionSealed | None = None
        """The session's end, in its last part."""
        self.has_missing_audio = False
        """Whether audio is missing that no event declares: it was freed before it was read."""
        self.part_samples = part_samples
        self._frame_bytes = _SAMPLE_BYTES * channels
        self._at = self._declared = self.start_samples

    def feed(self, entry: AudioEntry) -> bytes:
        """Take the next entry; return its samples that belong to this part.

        Raises:
            UndecodableEventError: if this build does not know an event.
        """
        self.cursor = entry.position
        if entry.pcm is None:
            self._take_event(entry)
            return b""
        return self._take_chunk(entry.position.offset, entry.pcm)

    def _take_chunk(self, end: int, pcm: bytes) -> bytes:
        if not self._frame_bytes:
            raise UndecodableEventError("audio of a recording without a description")
        start = end - len(pcm) // self._frame_bytes
        first, last = max(start, self._at), min(end, self.end_samples)
        self.is_complete = end >= self.end_samples
        if first >= last:
            self._reach(last)
            return b""
        self._reach(first)
        if self.spans and self.spans[-1][1] == first:
            first = self.spans.pop()[0]
        self.spans.append((first, last))
        taken = pcm[max(0, self._at - start) * self._frame_bytes : (last - start) * self._frame_bytes]
        self._at = last
        return taken

    def _take_event(self, entry: AudioEntry) -> None:
        assert entry.event is not None  # noqa: S101 - it is a chunk or an event
        event = decode_audio_event(entry.event)
        if isinstance(event, SessionSealed):
            self._end(event)
        else:
            # An event stands where the audio is: all audio before it was read, or is declared missing.
            samples = event.samples if isinstance(event, HoleFound) else 0
            self._reach(min(entry.position.offset - samples, self.end_samples))
            self._declared = max(self._declared, entry.position.offset) if samples else self._declared
            self._at = max(self._at, min(entry.position.offset, self.end_samples))
        if not self.is_complete:
            self.is_complete = entry.position.offset >= self.end_samples and self.sealed is None
        # A hole stands where it ends, as a chunk does: one that ends at the cut comes before it.
        if self.sealed is not None or entry.position <= Position(self.end_samples, 0):
            self.events.append(Line(id=str(entry.position), event=msgspec.Raw(entry.event), at_ms=entry.at_ms))

    def _end(self, event: SessionSealed) -> None:
        self.is_complete = True
        if event.offset_samples // self.part_samples == self.number:
            self.sealed = event
            self.end_samples = event.offset_samples
        self._reach(min(event.offset_samples, self.end_samples))

    def _reach(self, offset: int) -> None:
        """Continue the audio at `offset`."""
        if offset > max(self._at, self._declared):
            self.has_missing_audio = True
        self._at = max(self._at, offset)
