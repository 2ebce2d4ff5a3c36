"""A run's audio stream as a sequence of decisions. Pure: every worker draws the same ones from any checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from eventlog.codec import decode_audio_event
from eventlog.events import (
    Finalized,
    HoleFound,
    OptionsChanged,
    Paused,
    ProvisionalRequested,
    SessionSealed,
    SessionStarted,
    SourceDescribed,
)
from eventlog.log import AudioEntry, Checkpoint
from eventlog.positions import Position
from processor.speech import Boundary, OpenSpeech, Segmenter, SegmenterSettings, Utterance
from processor.speech.options import merge_changes, options_in_force
from processor.speech.settings import BOUNDARY_GRID_MS

_SAMPLE_BYTES = 2  # 16-bit PCM, the only encoding the log holds


@dataclass(frozen=True, slots=True)
class Decision:
    """A conclusion from the audio, and the checkpoint that holds once it is committed.

    Attributes:
        cursor: The last entry wholly consumed when it was decided.
        boundaries: Each channel's boundary then.
        channel: The channel of the utterance.
        utterance: The speech, or None.
        hole: Start and end of missing audio in samples, or None; both the same if its length is unknown.
        sealed: The session's end, or None.
        source: The recording's description, or None.
        request: Names a request for a provisional answer, or empty; it moves no boundary, and makes no fact.
        open_utterances: Each channel's open utterance at that point, as (channel, utterance); for a request alone.
        options: What the client has changed of its start's options up to the earliest boundary.
    """

    cursor: Position
    boundaries: tuple[int, ...]
    channel: int = 0
    utterance: Utterance | None = None
    hole: tuple[int, int] | None = None
    sealed: SessionSealed | None = None
    source: SourceDescribed | None = None
    request: str = ""
    open_utterances: tuple[tuple[int, Utterance], ...] = ()
    options: OptionsChanged | None = None


class Timeline:
    """Turns entries, in order and in pieces of any size, into decisions ordered by position, then channel."""

    def __init__(self, start: SessionStarted, checkpoint: Checkpoint) -> None:
        """Start at `checkpoint` of the session that `start` describes.

        Raises:
            msgspec.ValidationError: if this build does not know the pinned segmenter settings.
            ValueError: if the pinned settings or the checkpoint are out of range.
        """
        self._start = start
        self._settings = msgspec.convert(start.segmenter, SegmenterSettings)
        self._rate_hz = start.sample_rate_hz
        self._grid_samples = start.sample_rate_hz * BOUNDARY_GRID_MS // 1000
        self._changes = [(0, checkpoint.options)] if checkpoint.options else []
        boundaries = checkpoint.boundaries or (0,) * start.channels
        self._segment_from(boundaries)
        self._checkpoint_cursor = checkpoint.cursor
        self.cursor = Position(min(boundaries), 0) if checkpoint.boundaries else Position(0, 0)
        """The last entry read; reading continues after it."""
        if self.cursor.offset - self._grid_samples < checkpoint.cursor.offset < self.cursor.offset:
            # A hole's boundary lies up to 10 ms behind its end, and entries between the two have not been read.
            self.cursor = checkpoint.cursor
        self.has_ended = False

    _segmenters: list[Segmenter]  # one a channel; none until a recording is described
    _boundaries: list[int]
    _changes: list[tuple[int, OptionsChanged]]
    """What the client has changed: each change together with all before it, and from which boundary on, in samples.

    Of those that the earliest boundary has passed the last one is kept.
    """

    def speech_starts(self) -> list[int | None]:
        """Where each channel's open utterance begins, in samples; None between utterances."""
        return [segmenter.speech_start_samples for segmenter in self._segmenters]

    @property
    def channels(self) -> int:
        """How many channels the audio has; 0 until a recording is described."""
        return len(self._segmenters)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels; 0 until a recording is described."""
        return _SAMPLE_BYTES * len(self._segmenters)

    def feed(self, entry: AudioEntry) -> list[Decision]:
        """Consume the next entry and return its decisions; control events up to the checkpoint decide nothing again.

        Raises:
            UndecodableEventError: if this build does not know a control event.
        """
        position, pcm, segmenters = entry.position, entry.pcm, self._segmenters
        if pcm is None:
            decisions = self._feed_event(entry)
        elif len(segmenters) == 1 and segmenters[0].position_samples == position.offset - len(pcm) // _SAMPLE_BYTES:
            # One channel without a hole, as nearly every chunk is: this path saves a tenth of a chunk's cost.
            decisions = []
            for boundary in segmenters[0].feed(pcm):
                self._boundaries[0] = boundary.position_samples
                at, utterance = (boundary.position_samples,), boundary.utterance
                decisions.append(
                    self._decided(position, at, 0, utterance) if self._changes
                    else Decision(position, at, 0, utterance)
                )  # fmt: skip
        else:
            decisions = self._feed_channels(position, pcm)
        self.cursor = position
        return decisions

    def open_utterances(self) -> list[tuple[int, Utterance]]:
        """Each open utterance up to the last sample: (channel, utterance)."""
        return [
            (channel, utterance) for channel, segmenter in enumerate(self._segmenters)
            if (utterance := segmenter.open_utterance())
        ]  # fmt: skip

    @property
    def is_speaking(self) -> bool:
        """Whether a channel has an open utterance."""
        segmenters = self._segmenters
        # One channel, as nearly every run has; a thousand runs are asked twenty times a second.
        return segmenters[0].is_speaking if len(segmenters) == 1 else any(one.is_speaking for one in segmenters)

    def open_speech(self) -> list[tuple[int, OpenSpeech]]:
        """Each open utterance without its samples: (channel, speech)."""
        return [
            (channel, speech) for channel, segmenter in enumerate(self._segmenters)
            if (speech := segmenter.open_speech())
        ]  # fmt: skip

    def open_utterance(self, channel: int) -> Utterance | None:
        """The channel's open utterance up to the last sample."""
        return self._segmenters[channel].open_utterance() if channel < len(self._segmenters) else None

    def _segment_from(self, boundaries: Sequence[int]) -> None:
        """Segment as many channels as `boundaries` has, each from its boundary."""
        changed = self._changes[-1][1] if self._changes else None
        options = options_in_force(self._start, self._settings.hangover_ms, changed)
        self._segmenters = [Segmenter(self._settings, self._rate_hz, at, options) for at in boundaries]
        self._boundaries = list(boundaries)

    def _feed_channels(self, position: Position, pcm: bytes) -> list[Decision]:
        segmenters = self._segmenters
        if not segmenters:
            raise ValueError("audio of a recording that no event describes")
        start = position.offset - len(pcm) // self.frame_bytes
        decisions: list[Decision] = []
        if start > min(segmenter.position_samples for segmenter in segmenters):
            decisions = self._skip(start, position)  # trimmed, or lost without an event: a hole too
        samples = np.frombuffer(pcm, "<i2").reshape(-1, len(segmenters))
        boundaries: list[tuple[Boundary, int]] = []
        for channel, segmenter in enumerate(segmenters):
            repeated = max(0, segmenter.position_samples - start)
            new = segmenter.feed(samples[repeated:, channel].tobytes())
            boundaries += [(boundary, channel) for boundary in new]
        boundaries.sort(key=_position_then_channel)
        return decisions + [self._decision(boundary, channel, position) for boundary, channel in boundaries]

    def _feed_event(self, entry: AudioEntry) -> list[Decision]:
        if entry.event is None:
            return []
        position, event = entry.position, decode_audio_event(entry.event)
        if isinstance(event, OptionsChanged):
            self._change_options(event, position.offset)  # also at or before the checkpoint, whose options end earlier
        if position <= self._checkpoint_cursor:
            return []
        decisions: list[Decision] = []
        match event:
            case Finalized() | Paused():
                decisions = self._decide_channels(Segmenter.flush, position)
            case HoleFound(samples=0):
                # A container's bytes were lost, which may have been any amount of audio: set a boundary there.
                decisions = self._decide_channels(Segmenter.flush, self.cursor)
                hole = (position.offset, position.offset)
                decisions.append(self._decided(position, tuple(self._boundaries), hole=hole))
            case HoleFound():
                decisions = self._skip(position.offset, position)
            case SourceDescribed():
                # A recording is described before its first sample, and begins with as many channels as it has.
                self._segment_from((0,) * event.channels)
                decisions = [self._decided(position, tuple(self._boundaries), source=event)]
            case ProvisionalRequested(request=request):
                utterances = tuple(self.open_utterances())
                boundaries = tuple(self._boundaries)
                decisions = [self._decided(position, boundaries, request=request, open_utterances=utterances)]
            case SessionSealed():
                decisions = self._end(event, position)
        return decisions

    def _end(self, event: SessionSealed, position: Position) -> list[Decision]:
        decisions = self._skip(event.offset_samples, self.cursor)
        # Only the end itself consumes the entry: a worker that resumes from an earlier checkpoint reads it once more.
        decisions += self._decide_channels(Segmenter.close, self.cursor)
        self.has_ended = True
        return [*decisions, self._decided(position, tuple(self._boundaries), sealed=event)]

    def _change_options(self, event: OptionsChanged, at_samples: int) -> None:
        """Change the options from the first boundary at or after the event on; read again, it changes nothing."""
        changed = merge_changes(self._changes[-1][1] if self._changes else None, event)
        from_samples = at_samples // self._grid_samples * self._grid_samples
        earliest = min(self._boundaries, default=0)
        passed = [one for one in self._changes if one[0] <= earliest]
        # One at the same place is part of the new one: however many come, each 10 ms hold one at most.
        later = [one for one in self._changes if one[0] > earliest and one[0] != from_samples]
        self._changes = [*passed[-1:], *later, (from_samples, changed)]
        options = options_in_force(self._start, self._settings.hangover_ms, changed)
        for segmenter in self._segmenters:
            segmenter.change_options(options, from_samples)

    def _skip(self, end_samples: int, position: Position) -> list[Decision]:
        """Decide a hole, if audio up to `end_samples` is missing, after the utterances that it cuts off."""
        # Audio between a hole and the boundary behind it is not missed a second time.
        missing_from = min(
            (max(segmenter.position_samples, segmenter.boundary_samples) for segmenter in self._segmenters),
            default=end_samples,
        )
        boundaries = self._collect(
            lambda segmenter: segmenter.skip_to(end_samples) if segmenter.position_samples < end_samples else []
        )
        if missing_from >= end_samples:
            return []
        # Only the hole itself moves the boundaries past it; after a crash before its commit it is found again.
        decisions = [self._decision(one, channel, self.cursor) for one, channel in boundaries if one.utterance]
        self._boundaries = [segmenter.boundary_samples for segmenter in self._segmenters]
        return [*decisions, self._decided(position, tuple(self._boundaries), hole=(missing_from, end_samples))]

    def _decide_channels(self, act: Callable[[Segmenter], list[Boundary]], position: Position) -> list[Decision]:
        boundaries = self._collect(act)
        last = len(boundaries) - 1
        # Only the last decision of a control event consumes it; after a crash between them it is read once more,
        # and finds the channels that are already past it.
        return [
            self._decision(boundary, channel, position if at == last else self.cursor)
            for at, (boundary, channel) in enumerate(boundaries)
        ]

    def _collect(self, act: Callable[[Segmenter], list[Boundary]]) -> list[tuple[Boundary, int]]:
        """The boundaries that `act` sets in all channels, in order of position, then channel."""
        found = [(one, channel) for channel, segmenter in enumerate(self._segmenters) for one in act(segmenter)]
        return sorted(found, key=_position_then_channel)

    def _decision(self, boundary: Boundary, channel: int, cursor: Position) -> Decision:
        self._boundaries[channel] = boundary.position_samples
        return self._decided(cursor, tuple(self._boundaries), channel, boundary.utterance)

    def _decided(self, cursor: Position, boundaries: tuple[int, ...], channel: int = 0,
                 utterance: Utterance | None = None, **more: Any) -> Decision:  # noqa: ANN401 - fields of `Decision`
        """A decision, with what the client has changed up to its earliest boundary."""
        if not self._changes:
            return Decision(cursor, boundaries, channel, utterance, **more)
        earliest = min(boundaries, default=0)
        passed = [changed for from_samples, changed in self._changes if from_samples <= earliest]
        return Decision(cursor, boundaries, channel, utterance, **more, options=passed[-1] if passed else None)


def _position_then_channel(item: tuple[Boundary, int]) -> tuple[int, int]:
    return item[0].position_samples, item[1]
