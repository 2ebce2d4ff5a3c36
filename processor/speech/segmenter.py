"""Cuts one channel of PCM into utterances, as a pure function of the audio since the last boundary."""

from dataclasses import dataclass
from typing import NamedTuple

from processor.speech.options import SpeechOptions
from processor.speech.settings import BOUNDARY_GRID_MS, FRAME_MS, SAMPLE_RATES_HZ, SHORT_PAUSE_MS, SegmenterSettings
from processor.speech.vad import FrameTest, fresh_detector

_SAMPLE_BYTES = 2  # 16-bit PCM


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech; positions are samples from the session's start.

    Attributes:
        start_samples: Position of the first sample in `pcm`, pre-roll included.
        end_samples: Position after the last sample in `pcm`, post-roll included.
        decided_samples: Position at which the boundary behind it was known.
        pcm: 16-bit little-endian mono samples at the session's rate.
        voiced_ms: How much of it the detector took for speech.
        pause_ms: Unvoiced time since the last voiced frame, in whole frames.
        short_pauses_samples: Where voice came back after each pause of at least SHORT_PAUSE_MS, in order.
        options: The options in force at the boundary before it; None if the segmenter was given none.
    """

    start_samples: int
    end_samples: int
    decided_samples: int
    pcm: bytes
    voiced_ms: int
    pause_ms: int = 0
    short_pauses_samples: tuple[int, ...] = ()
    options: SpeechOptions | None = None


class OpenSpeech(NamedTuple):
    """An open utterance without its samples, which is cheap to look at often."""

    start_samples: int
    voiced_ms: int
    pause_ms: int
    """Unvoiced time since the last voiced frame."""
    short_pauses: int
    """How many pauses of at least SHORT_PAUSE_MS lie behind it, this one included."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """A position from which segmenting can start from a clean slate, and the utterance that it closed, if any."""

    position_samples: int
    utterance: Utterance | None


class Segmenter:
    """Segments one channel; feed it every sample in order from its last boundary.

    Restarted at any boundary it has returned, with the samples from there on, it returns the same later boundaries.
    However the audio is split into calls, the boundaries are the same.

    Args:
        settings: The session's pinned settings.
        sample_rate_hz: One of SAMPLE_RATES_HZ.
        boundary_samples: Where to start, a multiple of 10 ms: 0 or a boundary returned earlier.
        options: In force at that boundary; their `hangover_ms` replaces the one of `settings`.

    Raises:
        ValueError: The rate is not supported or the start is no multiple of 10 ms.
    """

    def __init__(
        self, settings: SegmenterSettings, sample_rate_hz: int, boundary_samples: int = 0,
        options: SpeechOptions | None = None,
    ) -> None:  # fmt: skip
        if sample_rate_hz not in SAMPLE_RATES_HZ:
            message = f"sample rate {sample_rate_hz} Hz is none of {SAMPLE_RATES_HZ}"
            raise ValueError(message)
        self._rate_hz = sample_rate_hz
        self._grid_samples = sample_rate_hz * BOUNDARY_GRID_MS // 1000
        if boundary_samples < 0 or boundary_samples % self._grid_samples:
            message = f"boundary {boundary_samples} is no multiple of 10 ms at {sample_rate_hz} Hz"
            raise ValueError(message)
        self._vad_mode = settings.vad_mode
        self._frame_bytes = sample_rate_hz * FRAME_MS // 1000 * _SAMPLE_BYTES
        self._preroll_bytes = self._bytes(settings.preroll_ms)
        self._postroll_bytes = self._bytes(settings.postroll_ms)
        self._next_options = options
        self._next_hangover_frames = _frames(options.hangover_ms if options else settings.hangover_ms)
        self._soft_pause_frames = _frames(settings.soft_pause_ms)
        self._soft_cut_bytes = self._bytes(settings.soft_cut_ms)
        self._hard_cut_bytes = self._bytes(settings.hard_cut_ms)
        self._silence_frames = _frames(settings.silence_ms)
        self._trigger_count = _frames(settings.trigger_voiced_ms)
        self._window_frames = _frames(settings.trigger_window_ms)
        self._warmup_frames = _frames(settings.warmup_ms)
        self._keep_bytes = self._preroll_bytes + self._window_frames * self._frame_bytes
        self._restart(boundary_samples, bytearray())

    _options: SpeechOptions | None  # of the audio since the boundary, as the next
    _hangover_frames: int
    _boundary: int
    _base: int  # position of the first sample in the buffer
    _audio: bytearray
    _cursor: int  # bytes of the buffer that were scanned
    _is_voiced: FrameTest
    _pending_drop: int  # samples still to be dropped behind a hole
    _is_speaking: bool
    _history: int  # the last frames of the trigger's window, a bit each, the newest lowest
    _frames: int  # scanned while waiting for speech
    _start: int  # of the open utterance, in bytes of the buffer, as the next
    _voiced_end: int
    _pause: int  # unvoiced frames since
    _voiced_frames: int
    _short_pauses: list[int]  # their ends, in samples from the session's start

    @property
    def boundary_samples(self) -> int:
        """The last boundary: where a restart would begin."""
        return self._boundary

    @property
    def position_samples(self) -> int:
        """The next expected sample: later audio leaves a hole, earlier audio is already known."""
        return self._base + len(self._audio) // _SAMPLE_BYTES - self._pending_drop

    def change_options(self, options: SpeechOptions, at_samples: int) -> None:
        """Change the options for everything from the first boundary at or after `at_samples` on.

        A boundary within the 10 ms before counts too: nothing behind it has been looked at.
        """
        self._next_options = options
        self._next_hangover_frames = _frames(options.hangover_ms)
        if self._boundary >= at_samples // self._grid_samples * self._grid_samples:
            self._options, self._hangover_frames = options, self._next_hangover_frames

    def feed(self, pcm: bytes | bytearray | memoryview) -> list[Boundary]:
        """Take the next whole samples and return the boundaries that became known, in order.

        Raises:
            ValueError: The number of bytes is odd.
        """
        if len(pcm) % _SAMPLE_BYTES:
            message = f"{len(pcm)} bytes are not whole 16-bit samples"
            raise ValueError(message)
        if self._pending_drop:
            drop = min(self._pending_drop, len(pcm) // _SAMPLE_BYTES)
            self._pending_drop -= drop
            pcm = pcm[drop * _SAMPLE_BYTES :]
        self._audio += pcm
        boundaries: list[Boundary] = []
        while True:
            end = None if self._is_speaking else self._scan_silence()
            if self._is_speaking:
                end = self._scan_speech()
            if end is None:
                return boundaries
            boundaries.append(Boundary(end, self._utterance(end)))
            self._restart(end, self._audio[self._cursor :])

    def flush(self) -> list[Boundary]:
        """Set a boundary now, at the last multiple of 10 ms; the samples after it belong to the next utterance."""
        end = self.position_samples // self._grid_samples * self._grid_samples
        if end <= self._boundary:
            return []
        boundary = Boundary(end, self._utterance(end))
        self._restart(end, self._audio[(end - self._base) * _SAMPLE_BYTES :])
        return [boundary]

    def close(self) -> list[Boundary]:
        """Decide all remaining audio at its end, the last incomplete 10 ms included."""
        position = self.position_samples
        boundaries = self._decide_all()
        grid_end = position // self._grid_samples * self._grid_samples
        self._restart(max(grid_end, self._boundary), bytearray())
        return boundaries

    def skip_to(self, position_samples: int) -> list[Boundary]:
        """Skip a hole in the audio: decide the open utterance and continue after the hole.

        The next boundary is the first multiple of 10 ms from there; samples before it are dropped when they arrive.

        Raises:
            ValueError: The position lies before the end of the fed audio.
        """
        if position_samples < self.position_samples:
            message = f"hole ends at {position_samples}, before the position {self.position_samples}"
            raise ValueError(message)
        boundaries = self._decide_all()
        latest = boundaries[-1].position_samples if boundaries else self._boundary
        after = -(-position_samples // self._grid_samples) * self._grid_samples
        self._restart(after, bytearray())
        self._pending_drop = after - position_samples
        return [*boundaries, Boundary(after, None)] if after > latest else boundaries

    @property
    def speech_start_samples(self) -> int | None:
        """Where the open utterance's first sample lies, or None between utterances."""
        return self._base + self._start // _SAMPLE_BYTES if self._is_speaking else None

    @property
    def is_speaking(self) -> bool:
        """Whether an utterance is open."""
        return self._is_speaking

    def open_speech(self) -> OpenSpeech | None:
        """Describe the open utterance, or return None between utterances."""
        if not self._is_speaking:
            return None
        pauses = len(self._short_pauses) + (self._pause >= _SHORT_PAUSE_FRAMES)
        start = self._base + self._start // _SAMPLE_BYTES
        return OpenSpeech(start, self._voiced_frames * FRAME_MS, self._pause * FRAME_MS, pauses)

    def open_utterance(self) -> Utterance | None:
        """Return the open utterance up to the last sample, or None between utterances."""
        return self._utterance(self.position_samples)

    def _scan_silence(self) -> int | None:
        """Scan for the start of speech, or for silence long enough to set a boundary at its end."""
        audio, cursor, size, is_voiced = self._audio, self._cursor, self._frame_bytes, self._is_voiced
        samples = size // _SAMPLE_BYTES
        history, frames, warmup_frames = self._history, self._frames, self._warmup_frames
        mask, trigger_count, silence_frames = (1 << self._window_frames) - 1, self._trigger_count, self._silence_frames
        last = len(audio) - size
        while cursor <= last:
            frame_end = cursor + size
            frames += 1
            if is_voiced(audio[cursor:frame_end], samples) and frames > warmup_frames:
                history = (history << 1 | 1) & mask
                if history.bit_count() >= trigger_count:
                    # The utterance starts at the first voiced frame of the window, pre-roll before it.
                    onset = frame_end - history.bit_length() * size
                    self._is_speaking, self._cursor, self._voiced_end = True, frame_end, frame_end
                    self._start = max(0, onset - self._preroll_bytes)
                    self._voiced_frames = history.bit_count()
                    return None
            else:
                history = history << 1 & mask
            cursor = frame_end
            # A likely onset is not cut off from its pre-roll, unless noise has kept the window busy twice as long.
            if frames >= silence_frames and (not history or frames >= 2 * silence_frames):
                self._cursor = cursor
                return self._base + cursor // _SAMPLE_BYTES
        self._cursor, self._history, self._frames = cursor, history, frames
        unreachable = cursor - self._keep_bytes  # by any pre-roll
        if unreachable > 0:
            del self._audio[:unreachable]
            self._base += unreachable // _SAMPLE_BYTES
            self._cursor -= unreachable
        return None

    def _scan_speech(self) -> int | None:
        """Scan for the end of the open utterance."""
        audio, cursor, size, is_voiced = self._audio, self._cursor, self._frame_bytes, self._is_voiced
        samples = size // _SAMPLE_BYTES
        pause, voiced_frames, voiced_end = self._pause, self._voiced_frames, self._voiced_end
        longest_pause, soft_pause = self._hangover_frames, self._soft_pause_frames
        soft_end, hard_end = self._start + self._soft_cut_bytes, self._start + self._hard_cut_bytes
        last = len(audio) - size
        decided = False
        while cursor <= last and not decided:
            frame_end = cursor + size
            if is_voiced(audio[cursor:frame_end], samples):
                if pause:
                    if pause >= _SHORT_PAUSE_FRAMES:
                        self._short_pauses.append(self._base + cursor // _SAMPLE_BYTES)
                    pause = 0
                voiced_frames += 1
                voiced_end = frame_end
                decided = frame_end >= hard_end
            else:
                pause += 1
                decided = (
                    pause >= longest_pause or (pause >= soft_pause and frame_end >= soft_end) or frame_end >= hard_end
                )
            cursor = frame_end
        self._cursor, self._pause, self._voiced_frames, self._voiced_end = cursor, pause, voiced_frames, voiced_end
        return self._base + cursor // _SAMPLE_BYTES if decided else None

    def _decide_all(self) -> list[Boundary]:
        """Return a boundary for the audio since the last one, its utterance up to the last sample."""
        grid_end = self.position_samples // self._grid_samples * self._grid_samples
        if grid_end <= self._boundary:
            return []
        return [Boundary(grid_end, self._utterance(self.position_samples))]

    def _utterance(self, decided_samples: int) -> Utterance | None:
        """Return the open utterance if it ends at `decided_samples`, or None between utterances."""
        if not self._is_speaking:
            return None
        end = min(self._voiced_end + self._postroll_bytes, (decided_samples - self._base) * _SAMPLE_BYTES)
        return Utterance(
            start_samples=self._base + self._start // _SAMPLE_BYTES,
            end_samples=self._base + end // _SAMPLE_BYTES,
            decided_samples=decided_samples,
            pcm=bytes(memoryview(self._audio)[self._start : end]),
            voiced_ms=self._voiced_frames * FRAME_MS,
            pause_ms=self._pause * FRAME_MS,
            short_pauses_samples=tuple(self._short_pauses),
            options=self._options,
        )

    def _restart(self, boundary_samples: int, audio: bytearray) -> None:
        """Start from a clean slate at a boundary: audio before it has no influence."""
        self._boundary = self._base = boundary_samples
        self._audio = audio
        self._cursor = self._pending_drop = 0
        self._is_voiced = fresh_detector(self._vad_mode, self._rate_hz)
        self._is_speaking = False
        self._history = self._frames = 0
        self._start = self._voiced_end = self._pause = self._voiced_frames = 0
        self._short_pauses = []
        self._options, self._hangover_frames = self._next_options, self._next_hangover_frames

    def _bytes(self, duration_ms: int) -> int:
        return _frames(duration_ms) * self._frame_bytes


def _frames(duration_ms: int) -> int:
    return -(-duration_ms // FRAME_MS)


_SHORT_PAUSE_FRAMES = _frames(SHORT_PAUSE_MS)
