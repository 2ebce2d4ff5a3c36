"""A run's audio stream as a sequence of decisions: pure, so that any worker draws the same ones from any checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from eventlog.codec import decode_audio_event
from eventlog.events import (
    AudioEvent,
    Finalized,
    HoleFound,
    ProvisionalAsked,
    SessionSealed,
    SessionStarted,
    SourceDescribed,
)
from eventlog.log import AudioEntry, Checkpoint
from eventlog.positions import Position
from processor.speech import Boundary, Segmenter, SegmenterSettings, Utterance

_SAMPLE_BYTES = 2  # 16-bit PCM, the only encoding the log holds


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that became certain, and the checkpoint that holds once it is committed.

    Attributes:
        cursor: The last entry wholly consumed when it was decided.
        boundaries: Each channel's boundary then.
        channel: Whose utterance it is.
        utterance: The speech, or None.
        hole: Start and end of missing audio in samples, or None; both the same if nobody knows how much is missing.
        sealed: The session's end, or None.
        source: What the recording is, or None.
        asked: Names a question for all that can be said by now, or empty; no boundary, and no fact.
        open: Each channel's utterance that was open then, as far as heard; filled for a question alone.
    """

    cursor: Position
    boundaries: tuple[int, ...]
    channel: int = 0
    utterance: Utterance | None = None
    hole: tuple[int, int] | None = None
    sealed: SessionSealed | None = None
    source: SourceDescribed | None = None
    asked: str = ""
    open: tuple[tuple[int, Utterance], ...] = ()


class Timeline:
    """Turns entries, in order and in any portions, into decisions ordered by position, then channel."""

    def __init__(self, start: SessionStarted, checkpoint: Checkpoint) -> None:
        """Start at `checkpoint` of the session that `start` describes.

        Raises:
            msgspec.ValidationError: if the pinned segmenter settings are none of this build.
            ValueError: if the pinned settings or the checkpoint can't be honoured.
        """
        settings = msgspec.convert(start.segmenter, SegmenterSettings)
        boundaries = checkpoint.boundaries or (0,) * start.channels
        self._settings = settings
        self._rate_hz = start.sample_rate_hz
        self._begin(boundaries)
        self._taken = checkpoint.cursor
        self.cursor = Position(min(boundaries), 0) if checkpoint.boundaries else Position(0, 0)
        """Read on after this entry."""
        self.ended = False

    _channels: list[Segmenter]  # none yet, if the recording isn't described
    _boundaries: list[int]

    @property
    def channels(self) -> int:
        """How many there are; 0 while nobody knows."""
        return len(self._channels)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels; 0 while nobody knows how many there are."""
        return _SAMPLE_BYTES * len(self._channels)

    def feed(self, entry: AudioEntry) -> list[Decision]:
        """Take the next entry and return what it decides; entries taken before the checkpoint decide nothing again.

        Raises:
            UndecodableEventError: if a control event is none of this build.
        """
        decisions = self._take_event(entry) if entry.pcm is None else self._take_chunk(entry, entry.pcm)
        self.cursor = entry.position
        return decisions

    def open_utterances(self) -> list[tuple[int, Utterance]]:
        """Each channel's utterance so far, where there is one: (channel, utterance)."""
        return [(number, heard) for number, channel in enumerate(self._channels) if (heard := channel.open_utterance())]

    def _begin(self, boundaries: Sequence[int]) -> None:
        """Segment as many channels as there are boundaries, from there."""
        self._channels = [Segmenter(self._settings, self._rate_hz, at) for at in boundaries]
        self._boundaries = list(boundaries)

    def _take_chunk(self, entry: AudioEntry, pcm: bytes) -> list[Decision]:
        channels = self._channels
        if not channels:
            raise ValueError("audio of a recording that isn't described")
        start = entry.position.offset - len(pcm) // self.frame_bytes
        if len(channels) == 1 and channels[0].position_samples == start:
            # One channel without a gap, nearly every chunk there is: saves a tenth of what a chunk costs.
            return [self._decided(boundary, 0, entry.position) for boundary in channels[0].feed(pcm)]
        decisions: list[Decision] = []
        if start > min(channel.position_samples for channel in channels):
            decisions = self._skip(start, entry.position)  # trimmed or lost without a word: told as a hole
        samples = np.frombuffer(pcm, "<i2").reshape(-1, len(channels))
        heard = [
            (boundary, number)
            for number in range(len(channels))
            for boundary in self._hear(number, samples[:, number].tobytes(), start)
        ]
        heard.sort(key=_position_then_channel)
        decisions += [self._decided(boundary, number, entry.position) for boundary, number in heard]
        return decisions

    def _hear(self, number: int, pcm: bytes, start: int) -> list[Boundary]:
        channel = self._channels[number]
        known = channel.position_samples - start
        if known > 0:
            pcm = pcm[known * _SAMPLE_BYTES :]
        return channel.feed(pcm)

    def _take_event(self, entry: AudioEntry) -> list[Decision]:
        if entry.position <= self._taken or entry.event is None:
            return []
        return self._decide(decode_audio_event(entry.event), entry.position)

    def _decide(self, event: AudioEvent, position: Position) -> list[Decision]:
        decisions: list[Decision] = []
        match event:
            case Finalized():
                decisions = self._all_channels(Segmenter.flush, position)
            case HoleFound(samples=0):
                decisions = self._hole_of_unknown_length(position)
            case HoleFound():
                decisions = self._skip(position.offset, position)
            case SourceDescribed():
                decisions = self._describe(event, position)
            case ProvisionalAsked(request=request):
                heard = tuple(self.open_utterances())
                decisions = [Decision(position, tuple(self._boundaries), asked=request, open=heard)]
            case SessionSealed():
                decisions = self._end(event, position)
        return decisions

    def _describe(self, event: SourceDescribed, position: Position) -> list[Decision]:
        """Begin with as many channels as the recording has; it is described before its first sample."""
        self._begin((0,) * event.channels)
        return [Decision(position, tuple(self._boundaries), source=event)]

    def _hole_of_unknown_length(self, position: Position) -> list[Decision]:
        """A boundary where a container's bytes were lost, which may have been any amount of audio."""
        decisions = self._all_channels(Segmenter.flush, self.cursor)
        return [*decisions, Decision(position, tuple(self._boundaries), hole=(position.offset, position.offset))]

    def _end(self, event: SessionSealed, position: Position) -> list[Decision]:
        decisions = self._skip(event.offset_samples, self.cursor)
        # Only the end itself consumes the entry: whoever goes on from a checkpoint before it takes the entry once more.
        decisions += self._all_channels(Segmenter.close, self.cursor)
        self.ended = True
        return [*decisions, Decision(position, tuple(self._boundaries), sealed=event)]

    def _skip(self, end_samples: int, position: Position) -> list[Decision]:
        """Tell a hole, if audio up to `end_samples` is missing, after the utterances that it cuts off."""
        missing_from = min(self._heard_up_to(), default=end_samples)
        heard = self._heard(lambda channel: _skipped(channel, end_samples))
        if missing_from >= end_samples:
            return []
        # Only the hole itself moves the boundaries past it; after a crash before its commit it is found again.
        decisions = [self._decided(boundary, number, self.cursor) for boundary, number in heard if boundary.utterance]
        self._boundaries = [channel.boundary_samples for channel in self._channels]
        return [*decisions, Decision(position, tuple(self._boundaries), hole=(missing_from, end_samples))]

    def _heard_up_to(self) -> list[int]:
        """Up to where each channel is known; what a hole leaves before its boundary isn't missed a second time."""
        return [max(channel.position_samples, channel.boundary_samples) for channel in self._channels]

    def _all_channels(self, act: Callable[[Segmenter], list[Boundary]], position: Position) -> list[Decision]:
        heard = self._heard(act)
        last = len(heard) - 1
        # Only the last decision of a control event consumes it; after a crash between them it is taken once more,
        # and finds the channels that are already past it.
        return [
            self._decided(boundary, number, position if at == last else self.cursor)
            for at, (boundary, number) in enumerate(heard)
        ]

    def _heard(self, act: Callable[[Segmenter], list[Boundary]]) -> list[tuple[Boundary, int]]:
        heard = [(boundary, number) for number, channel in enumerate(self._channels) for boundary in act(channel)]
        return sorted(heard, key=_position_then_channel)

    def _decided(self, boundary: Boundary, number: int, cursor: Position) -> Decision:
        self._boundaries[number] = boundary.position_samples
        return Decision(cursor, tuple(self._boundaries), number, boundary.utterance)


def _position_then_channel(item: tuple[Boundary, int]) -> tuple[int, int]:
    return item[0].position_samples, item[1]


def _skipped(channel: Segmenter, end_samples: int) -> list[Boundary]:
    return channel.skip_to(end_samples) if channel.position_samples < end_samples else []
