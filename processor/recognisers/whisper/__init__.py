"""Whisper by CTranslate2: short encodings with a silence behind them, decoded together, every word with its time."""

from processor.recognisers.whisper.recogniser import WhisperRecogniser

__all__ = ["WhisperRecogniser"]
