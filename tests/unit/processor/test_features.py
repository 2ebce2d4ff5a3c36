import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from processor.speech.features import LogMel
from processor.speech.resampling import to_recogniser_rate
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
