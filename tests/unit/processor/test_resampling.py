import numpy as np
import pytest

from processor.speech.resampling import to_recogniser_rate


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_and_length(rate_hz: int) -> None:
    """A tone of 440 Hz is one of 440 Hz at 16 kHz, as long as before."""
    tone = np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz) * 16_000
    samples = to_recogniser_rate(tone.astype("<i2").tobytes(), rate_hz)
    assert abs(len(samples) - 16_000) <= 1
    assert int(np.argmax(np.abs(np.fft.rfft(samples[:16_000], 16_000)))) == 440
    assert 0.45 < float(np.abs(samples[100:-100]).max()) < 0.55


def test_nothing_stays_nothing() -> None:
    """No samples are no samples."""
    assert len(to_recogniser_rate(b"", 44_100)) == 0
