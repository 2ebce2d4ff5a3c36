"""Real speech with pauses at any rate, and the entries that an edge would have written of it."""

import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from eventlog.codec import encode
from eventlog.events import AudioEvent, Finalized, HoleFound, OptionsChanged, Paused, SessionSealed, SessionStarted
from eventlog.log import AudioEntry
from eventlog.positions import OPENED, SEALED, Position
from processor.speech import SegmenterSettings
from tests.support.tree import ROOT

SPEECH = ROOT / "speech"

# Short pauses and cuts, so that a few seconds hold every kind of boundary: pause, soft and hard cut, long silence.
SETTINGS = SegmenterSettings(hangover_ms=300, silence_ms=1_000, soft_cut_ms=1_500, hard_cut_ms=2_400)

Samples = npt.NDArray[np.int16]


@cache
def sentence(number: str) -> Samples:
    """One bundled sentence, 16 kHz."""
    with wave.open(str(SPEECH / f"sense-{number}.wav")) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


@cache
def talk(sample_rate_hz: int = 16_000, channels: int = 1) -> Samples:
    """Nine seconds of two sentences and pauses, shape (samples, channels); channels speak at different times."""
    pauses = [np.zeros(16 * pause_ms, np.int16) for pause_ms in (330, 1_000, 1_510)]
    mono = np.concatenate([pauses[0], sentence("0880"), pauses[1], sentence("0930"), pauses[2]])
    count = len(mono) * sample_rate_hz // 16_000
    at = np.arange(count) * (16_000 / sample_rate_hz)
    resampled = np.interp(at, np.arange(len(mono)), mono.astype(np.float64)).astype(np.int16)
    return np.stack([np.roll(resampled, channel * sample_rate_hz * 13 // 10) for channel in range(channels)], axis=1)


@dataclass
class Story:
    """The course of a session: its audio and its events.

    Attributes:
        samples: All its audio, shape (samples, channels).
        sample_rate_hz: Its rate.
        finalized: Offsets at which the client asked for a boundary.
        paused: Offsets at which its frames stopped for a while.
        changed: Changes of options, each with its offset.
        first_event: Which comes first of the events at one offset, by its number among these three kinds.
        holes: (start, end) of audio that never came into the log.
        has_hole_events: Whether an event in the log marks each hole.
        sealed: Whether the session has ended.
        segmenter: The settings pinned at its start.
    """

    samples: Samples
    sample_rate_hz: int = 16_000
    finalized: Sequence[int] = ()
    paused: Sequence[int] = ()
    changed: Sequence[tuple[int, OptionsChanged]] = ()
    first_event: int = 0
    holes: Sequence[tuple[int, int]] = ()
    has_hole_events: bool = True
    sealed: bool = True
    segmenter: dict[str, Any] = field(default_factory=lambda: dict(msgspec.to_builtins(SETTINGS)))

    @property
    def start(self) -> SessionStarted:
        """The session's first event."""
        return SessionStarted(
            session_id="a-session",
            sample_rate_hz=self.sample_rate_hz,
            channels=self.samples.shape[1],
            segmenter=self.segmenter,
        )

    def entries(self, cuts: Iterable[int] = ()) -> list[AudioEntry]:
        """The audio stream, its chunks ending at `cuts` and wherever an event stands."""
        length = len(self.samples)
        edges = {edge for hole in self.holes for edge in hole}
        events = {*self.finalized, *self.paused, *(at for at, _ in self.changed)}
        offsets = sorted({0, length, *events, *edges, *(cut for cut in cuts if 0 < cut < length)})
        found = [AudioEntry(OPENED, None, encode(self.start), 0)]
        for before, offset in zip([0, *offsets[:-1]], offsets, strict=True):
            found += self._chunk(before, offset)
            found += self._events(offset, after=found[-1].position)
        if self.sealed:
            end = encode(SessionSealed(reason="stop", offset_samples=length))
            found.append(AudioEntry(SEALED, None, end, 0))
        return found

    def _chunk(self, start: int, end: int) -> list[AudioEntry]:
        if start == end or any(first <= start and end <= last for first, last in self.holes):
            return []
        return [AudioEntry(Position(end, 0), self.samples[start:end].tobytes(), None, 0)]

    def _events(self, offset: int, after: Position) -> list[AudioEntry]:
        found: list[AudioEntry] = []
        for start, end in self.holes:
            if end == offset and self.has_hole_events:
                after = Position(offset, 0)
                found.append(AudioEntry(after, None, encode(HoleFound(samples=end - start)), 0))
        events: list[AudioEvent] = [change for at, change in self.changed if at == offset]
        events += [Finalized()] * list(self.finalized).count(offset)
        events += [Paused(silent_ms=2_000)] * list(self.paused).count(offset)
        first = self.first_event % max(1, len(events))
        for event in [*events[first:], *events[:first]]:
            after = after.control() if after.offset == offset else Position(offset, 1)
            found.append(AudioEntry(after, None, encode(event), 0))
        return found
