"""Voice activity detection of single 30 ms frames, at any of the session rates."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import webrtcvad

_DETECTOR_RATE_HZ = 8_000  # webrtcvad works at 8 kHz inside, whatever it is given
_NATIVE_RATES_HZ = (8_000, 16_000)  # it takes 48 kHz as well, at 28 us a frame; averaging first takes 8 us
_DETECTOR_FRAME_SAMPLES = _DETECTOR_RATE_HZ * 30 // 1000

FrameTest = Callable[[bytes | bytearray], bool]


def fresh_detector(vad_mode: int, sample_rate_hz: int) -> FrameTest:
    """Return a detector without history: a function from a 30 ms frame of s16le PCM to "is it voiced".

    Args:
        vad_mode: webrtcvad's aggressiveness, 0 to 3.
        sample_rate_hz: The rate of the frames it will be given.
    """
    is_speech: Callable[[bytes | bytearray, int], bool] = webrtcvad.Vad(vad_mode).is_speech
    if sample_rate_hz in _NATIVE_RATES_HZ:
        return lambda frame: is_speech(frame, sample_rate_hz)
    starts, counts = _averaging(sample_rate_hz)

    def is_voiced(frame: bytes | bytearray) -> bool:
        sums = np.add.reduceat(np.frombuffer(frame, "<i2"), starts, dtype=np.int32)
        return is_speech((sums // counts).astype("<i2").tobytes(), _DETECTOR_RATE_HZ)

    return is_voiced


def _averaging(sample_rate_hz: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Return where each 8 kHz sample's share of a frame starts, and how many samples it averages.

    Averaging neighbours carries no state from frame to frame, as a proper resampler would.
    """
    frame_samples = sample_rate_hz * 30 // 1000
    starts = np.arange(_DETECTOR_FRAME_SAMPLES) * frame_samples // _DETECTOR_FRAME_SAMPLES
    return starts, np.diff(np.append(starts, frame_samples)).astype(np.int32)
