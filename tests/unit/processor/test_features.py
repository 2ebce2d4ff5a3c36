import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from processor.speech.features import LogMel, to_recogniser_rate
from tests.unit.processor.speech_audio import noise, sentence, silence


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize(
    "pcm",
    [sentence(1), silence(1.0), noise(0.5, level=0.1), bytes(2), bytes(range(200))],
    ids=lambda pcm: str(len(pcm)),
)
def test_features_are_those_that_whisper_was_trained_on(pcm: bytes, mels: int) -> None:
    """The features equal faster-whisper's, at every length and for both sizes of filterbank."""
    extractor = FeatureExtractor(feature_size=mels)
    samples = to_recogniser_rate(pcm, 16_000)
    expected = extractor(samples)
    found = LogMel(extractor.mel_filters)(samples)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4


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
