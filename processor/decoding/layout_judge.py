"""Judges whether a recording's two channels carry one talker or one each, by its speech. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from processor.decoding.child_protocol import SAMPLE_RATE_HZ
from processor.decoding.layouts import MIX, SPLIT, Judgement
from processor.speech.vad import fresh_detector

MAX_DELAY_SAMPLES = SAMPLE_RATE_HZ // 50
"""Between the channels: in 20 ms sound travels 7 m, farther than two microphones of one recorder stand apart in a room.
Echoes of telephone lines come later and are no second microphone."""

PINNED_S, FIRST_S = 60.0, 1.9
"""Speech after which a recorded file, and a live recording, is judged: a minute, and two blocks."""

MAX_HELD_S, FIRST_HELD_S = 180, 60
"""Audio after which either is judged by the speech so far: 11 MB and 4 MB of samples are held until then."""

_HOP = 960
"""60 ms: two frames of the VAD."""
_WINDOW = 2_048
"""128 ms: long enough that a delay of `MAX_DELAY_SAMPLES` and the early reflections of a room stay within it."""
_BLOCK = 16
"""Windows of speech that are compared together: 0.96 s. Independent ones then correlate by 0.08 at most (measured)."""
_LEAST = 4
"""Windows that make a block at the end of a recording: a short word."""

_BAND_HZ = (150, 4_000)
_BANDS = 24

_SAME_DELAY_SAMPLES = 2
"""Between the delays of one place: a talker's head moves by as much."""

_COHERENT = 0.3
"""Correlation of a talker on both: 0.45 and more in a hall where reverberation is as loud as the voice (measured)."""
_BOTH_LEAD = 0.13
"""Share of the sound that either channel leads by `_LEAD_DB` within a block: 0.2 and more while two talk at once, even
if each bleeds into the other channel at -10 dB; 0.08 at most with one talker (measured)."""
_LEAD_DB = 6.0
_STRONG_LEAD_DB = 10.0
"""By which a talker's own microphone leads; bleeding is 10 to 20 dB lower."""
_EMPTY_DB = 30.0
"""A channel so far below the other carries no talker, only what a codec or a cable leaks."""
_APART_SHARE = 0.3
"""Of speech that must be on one channel alone for two: more than a notice on both leaves out, less than a call has."""
_TURN_SHARE = 0.05
"""Of speech that each channel must lead if both talkers are on both."""

_SPEECH_DB = 9.0
"""By which speech exceeds the channel's floor."""
_FLOOR_RISE_DB = 0.06
"""A window, or 1 dB a second: the floor follows a room that grows louder."""
_LEAST_LEVEL_DB = 10.0
"""Of a 16-bit sample squared: -80 dB of full scale, below which is no sound."""
_STEADY, _STEADY_WINDOWS = 0.97, 2
"""Likeness of a window's fine spectrum with that 120 ms before: 0.99 and more in tones, 0.95 at most in speech."""
_VAD_MODE = 2

_frequencies = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE_HZ)
_IN_BAND = np.flatnonzero((_frequencies >= _BAND_HZ[0]) & (_frequencies < _BAND_HZ[1]))
_BAND_STARTS = np.searchsorted(_frequencies[_IN_BAND], np.geomspace(*_BAND_HZ, _BANDS + 1)[:-1])
_TAPER = np.hanning(_WINDOW)
_FRAME = _HOP // 2

Spectra = npt.NDArray[np.complex128]
"""Of both channels in the band: shape (windows, bins, 2)."""


class _Evidence:
    """What blocks of sound say; all counts are windows."""

    def __init__(self) -> None:
        self.same = self.apart = 0
        self.coherent_leads = [0, 0]
        self.apart_leads = [0, 0]
        self.is_strong = False
        self._phases = np.zeros(len(_IN_BAND), np.complex128)
        self._delays: dict[int, int] = {}

    def add(self, spectra: Spectra) -> None:
        """Judge one block."""
        count = len(spectra)
        left, right = spectra[..., 0], spectra[..., 1]
        powers = spectra.real**2 + spectra.imag**2
        totals = powers.sum(axis=0)
        cross = (left.conj() * right).sum(axis=0)
        phases = cross / np.sqrt(totals[:, 0] * totals[:, 1] + 1.0)
        delay, likeness = _peak(phases)
        level_db = 10 * np.log10((totals[:, 0].sum() + 1.0) / (totals[:, 1].sum() + 1.0))
        leader = int(level_db < 0)
        if abs(level_db) >= _EMPTY_DB or abs(likeness) < _COHERENT or _lead_share(powers) >= _BOTH_LEAD:
            if abs(level_db) >= _STRONG_LEAD_DB:
                self.apart_leads[leader] += count
            self.apart += count
            return
        if abs(level_db) > _LEAD_DB:
            self.coherent_leads[leader] += count
            self.is_strong |= bool(abs(level_db) >= _STRONG_LEAD_DB)
        else:
            self.same += count
        self._phases += phases
        self._delays[delay] = self._delays.get(delay, 0) + count

    @property
    def windows(self) -> int:
        """How many were judged."""
        return self.same + self.apart + sum(self.coherent_leads)

    def judgement(self, *, is_all: bool) -> Judgement:
        """The layout by the evidence so far; `is_all` says that it is a minute, or all of the recording."""
        apart, total = self.apart, self.windows
        fewest = min(a + b for a, b in zip(self.coherent_leads, self.apart_leads, strict=True))
        has_turns = fewest >= max(_LEAST, _TURN_SHARE * total)
        if has_turns or (self.is_strong and not is_all):
            apart += sum(self.coherent_leads)
        if total and apart >= _APART_SHARE * total:
            return Judgement(SPLIT)
        return Judgement(MIX, *self._alignment())

    def _alignment(self) -> tuple[int, bool]:
        """Delay and polarity, unless too little is the same or it comes with several delays, as from several places."""
        heard = sum(self._delays.values())
        if not heard:
            return 0, False
        delay, likeness = _peak(self._phases)
        near = sum(count for at, count in self._delays.items() if abs(at - delay) <= _SAME_DELAY_SAMPLES)
        return (delay if 2 * near > heard else 0), bool(likeness < 0)


class LayoutJudge:
    """Takes the beginning of a recording in pieces of any size, and judges as soon as it can."""

    def __init__(self, *, is_recorded: bool) -> None:
        """Begin without samples; a recorded file is judged by a minute of speech, a live one by two seconds."""
        self._is_recorded = is_recorded
        speech_s, held_s = (PINNED_S, MAX_HELD_S) if is_recorded else (FIRST_S, FIRST_HELD_S)
        self._enough_windows = speech_s * SAMPLE_RATE_HZ / _HOP
        self._max_samples = held_s * SAMPLE_RATE_HZ
        self._rest = np.zeros((0, 2), np.int16)
        self._examined_samples = 0
        self._detectors = [fresh_detector(_VAD_MODE, SAMPLE_RATE_HZ) for _ in range(2)]
        self._floor_db: npt.NDArray[np.float64] | None = None
        self._former: list[npt.NDArray[np.float64]] = []
        self._speech, self._sound = _Evidence(), _Evidence()
        self._block: list[Spectra] = []
        self._sound_block: list[Spectra] = []
        self._speech_windows = 0

    def add(self, pcm: bytes) -> Judgement | None:
        """Examine the next interleaved samples; the judgement after enough speech, else None."""
        self._rest = np.concatenate([self._rest, np.frombuffer(pcm, "<i2").reshape(-1, 2)])
        at = 0
        while at + _WINDOW <= len(self._rest):
            self._examine(self._rest[at : at + _WINDOW])
            at += _HOP
            self._examined_samples += _HOP
            # At a window's end, not at a piece's: pieces of any size give the same judgement.
            if self._speech_windows >= self._enough_windows:
                return self._speech.judgement(is_all=self._is_recorded)
            if self._examined_samples >= self._max_samples:
                return self.judgement(is_all=self._is_recorded)
        self._rest = self._rest[at:]
        return None

    def judgement(self, *, is_all: bool) -> Judgement:
        """The judgement by the samples so far: by speech, if they have any; silence is one channel.

        `is_all` says that none follow, or enough came before.
        """
        for block, evidence in ((self._block, self._speech), (self._sound_block, self._sound)):
            if len(block) >= _LEAST or (block and not evidence.windows):
                evidence.add(np.array(block))
            block.clear()
        return (self._speech if self._speech.windows else self._sound).judgement(is_all=is_all)

    def _examine(self, window: npt.NDArray[np.int16]) -> None:
        frames = np.ascontiguousarray(window[:_HOP].T)
        voiced = [
            any(detect(channel[first : first + _FRAME].tobytes(), _FRAME) for first in (0, _FRAME))
            for detect, channel in zip(self._detectors, frames, strict=True)
        ]  # fmt: skip
        spectra = np.fft.rfft(window * _TAPER[:, None], axis=0)[_IN_BAND]
        powers = spectra.real**2 + spectra.imag**2
        levels_db = np.maximum(10 * np.log10(powers.sum(axis=0) / _WINDOW**2 * 4 + 1e-9), _LEAST_LEVEL_DB)
        if self._floor_db is None:
            self._floor_db = levels_db
        self._floor_db = np.minimum(self._floor_db + _FLOOR_RISE_DB, levels_db)
        is_loud = levels_db >= self._floor_db + _SPEECH_DB
        is_steady = self._is_steady(powers)
        if levels_db.max() > _LEAST_LEVEL_DB and not self._speech.windows:
            self._sound_block.append(spectra)
            if len(self._sound_block) == _BLOCK:
                self._sound.add(np.array(self._sound_block))
                self._sound_block.clear()
        if (is_loud & voiced).any() and not is_steady:
            self._block.append(spectra)
            self._speech_windows += 1
            if len(self._block) == _BLOCK:
                self._speech.add(np.array(self._block))
                self._block.clear()

    def _is_steady(self, powers: npt.NDArray[np.float64]) -> bool:
        """Whether the sound is what it was 120 ms before, as tones are and speech is not."""
        # The fourth root of the power: a tone's harmonics count as well as its loudest.
        fine = np.sqrt(np.sqrt(powers.sum(axis=1)))
        fine /= np.sqrt((fine**2).sum()) + 1e-9
        self._former.append(fine)
        return len(self._former) > _STEADY_WINDOWS and float(self._former.pop(0) @ fine) >= _STEADY


def _peak(phases: Spectra) -> tuple[int, float]:
    """The delay of the second channel at which the channels are most alike, and that likeness, -1 to 1."""
    spectrum = np.zeros(_WINDOW // 2 + 1, np.complex128)
    spectrum[_IN_BAND] = phases
    by_delay = np.fft.irfft(spectrum, _WINDOW)
    near = np.concatenate([by_delay[-MAX_DELAY_SAMPLES:], by_delay[: MAX_DELAY_SAMPLES + 1]])
    best = int(np.abs(near).argmax())
    return best - MAX_DELAY_SAMPLES, float(near[best]) * _WINDOW / (2 * len(_IN_BAND))


def _lead_share(powers: npt.NDArray[np.float64]) -> float:
    """The smaller of the two shares of sound that a channel leads, over bands and windows."""
    bands = np.add.reduceat(powers, _BAND_STARTS, axis=1) + 1.0
    weights = np.sqrt(bands.sum(axis=2))
    ratio = bands[..., 0] / bands[..., 1]
    lead = 10 ** (_LEAD_DB / 10)
    return float(min(weights[ratio > lead].sum(), weights[ratio < 1 / lead].sum()) / weights.sum())
