"""Pure speech handling: voice detection, segmenting, resampling and the recognisers' guards."""

from processor.speech.segmenter import Boundary, Segmenter, Utterance
from processor.speech.settings import SAMPLE_RATES_HZ, SegmenterSettings

__all__ = ["SAMPLE_RATES_HZ", "Boundary", "Segmenter", "SegmenterSettings", "Utterance"]
