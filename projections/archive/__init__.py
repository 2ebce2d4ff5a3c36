"""The sink `archive`: the audio and the facts of live runs, outside Redis."""

from projections.archive.sink import Archive

__all__ = ["Archive"]
