"""Voice activity detection of single 30 ms frames, at any of the session rates."""

from collections.abc import Callable
from functools import partial

# The extension itself: the wrapper `webrtcvad.Vad` adds a call and checks that hold by construction here, which cost a
# quarter of a frame, 33 times a second and session.
import _webrtcvad
import numpy as np
import numpy.typing as npt

_DETECTOR_RATE_HZ = 8_000  # webrtcvad works at 8 kHz inside, whatever its input's rate
_NATIVE_RATES_HZ = (8_000, 16_000)  # it takes 48 kHz as well, at 28 us a frame; averaging first takes 8 us
_DETECTOR_FRAME_SAMPLES = _DETECTOR_RATE_HZ * 30 // 1000

FrameTest = Callable[[bytes | bytearray, int], bool]
"""From a 30 ms frame of s16le PCM and its number of samples to whether it is voiced."""


def fresh_detector(vad_mode: int, sample_rate_hz: int) -> FrameTest:
    """Return a detector without history: a `FrameTest`.

    Args:
        vad_mode: webrtcvad's aggressiveness, 0 to 3.
        sample_rate_hz: The rate of its frames.
    """
    detector = _webrtcvad.create()
    _webrtcvad.init(detector)
    _webrtcvad.set_mode(detector, vad_mode)
    if sample_rate_hz in _NATIVE_RATES_HZ:
        return partial(_webrtcvad.process, detector, sample_rate_hz)
    starts, counts = _averaging(sample_rate_hz)

    def is_voiced(frame: bytes | bytearray, _samples: int) -> bool:
        sums = np.add.reduceat(np.frombuffer(frame, "<i2"), starts, dtype=np.int32)
        averaged = (sums // counts).astype("<i2").tobytes()
        return bool(_webrtcvad.process(detector, _DETECTOR_RATE_HZ, averaged, _DETECTOR_FRAME_SAMPLES))

    return is_voiced


def _averaging(sample_rate_hz: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Return where each 8 kHz sample's share of a frame starts, and how many samples it averages.

    Averaging neighbours carries no state from frame to frame, as a proper resampler would.
    """
    frame_samples = sample_rate_hz * 30 // 1000
    starts = np.arange(_DETECTOR_FRAME_SAMPLES) * frame_samples // _DETECTOR_FRAME_SAMPLES
    return starts, np.diff(np.append(starts, frame_samples)).astype(np.int32)
