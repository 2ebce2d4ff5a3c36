"""Pure speech handling: voice detection, segmenting, resampling and the recognisers' guards."""

from processor.speech.options import SpeechOptions
from processor.speech.segmenter import Boundary, OpenSpeech, Segmenter, Utterance
from processor.speech.settings import SAMPLE_RATES_HZ, SHORT_PAUSE_MS, SHORTEST_MS, SegmenterSettings

__all__ = [
    "SAMPLE_RATES_HZ", "SHORTEST_MS", "SHORT_PAUSE_MS", "Boundary", "OpenSpeech", "Segmenter", "SegmenterSettings",
    "SpeechOptions", "Utterance",
]
