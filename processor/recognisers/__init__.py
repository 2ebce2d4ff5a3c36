"""Recognisers: from utterances to text."""

from processor.recognisers.base import Clip, RecognisedWord, Recogniser, RecogniserError, Recognition
from processor.recognisers.loading import load

__all__ = ["Clip", "RecognisedWord", "Recogniser", "RecogniserError", "Recognition", "load"]
