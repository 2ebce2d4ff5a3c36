"""Recognisers: from utterances to text."""

from processor.recognisers.base import Clip, Recogniser, RecogniserError, Recognition
from processor.recognisers.loading import load

__all__ = ["Clip", "Recogniser", "RecogniserError", "Recognition", "load"]
