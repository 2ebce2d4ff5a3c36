"""Pure speech handling: voice detection, segmenting, resampling and the recognisers' guards."""

from processor.speech.options import SpeechOptions
from processor.speech.segmenter import Boundary, Segmenter, Utterance
from processor.speech.settings import SAMPLE_RATES_HZ, SHORTEST_MS, SegmenterSettings

__all__ = ["SAMPLE_RATES_HZ", "SHORTEST_MS", "Boundary", "Segmenter", "SegmenterSettings", "SpeechOptions", "Utterance"]
