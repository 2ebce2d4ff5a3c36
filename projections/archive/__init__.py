"""The projection `archive`: what live runs processed, and what they stated, outside Redis."""

from projections.archive.sink import Archive

__all__ = ["Archive"]
