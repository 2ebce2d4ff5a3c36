"""How much of the recogniser partials may use: what they like among few talkers, else no more than finals do."""

from __future__ import annotations

import time
from collections.abc import Callable

from processor.recogniser_load import RecogniserLoad

FEW_TALKERS = 8
"""Up to so many, partials have their floor whatever finals use."""

_FLOOR = 0.5
"""Of all calls, for the partials of few talkers."""

_MOST_S = 2.0
"""Unused time kept at most: partials that come together after a pause, but no burst that finals would wait behind."""

_SMOOTHING = 0.2  # of the mean cost of a partial; the last five calls make two thirds of it


class PartialBudget:
    """Seconds of recogniser time, earned by finals and by time, spent by partials as measured."""

    def __init__(self, load: RecogniserLoad, max_parallel: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Spend the time of a recogniser of which `max_parallel` calls run side by side."""
        self._load = load
        self._max_parallel = max_parallel
        self._clock = clock
        self._at_s = clock()
        self._seen_final_s = self._seen_partial_s = 0.0
        self._left_s = _MOST_S
        self._mean_s = 0.0

    def note_done(self, seconds: float) -> None:
        """Note what a partial has cost."""
        if seconds:
            self._mean_s += (seconds - self._mean_s) * (_SMOOTHING if self._mean_s else 1.0)

    def room(self, talkers: int, waiting: int) -> int:
        """How many partials may be submitted now, while so many people talk and so many partials are under way."""
        now, load = self._clock(), self._load
        earned_s = load.final_s - self._seen_final_s
        if talkers <= FEW_TALKERS:
            earned_s += (now - self._at_s) * _FLOOR * self._max_parallel
        spent_s = load.partial_s - self._seen_partial_s
        self._at_s, self._seen_final_s, self._seen_partial_s = now, load.final_s, load.partial_s
        self._left_s = min(_MOST_S, self._left_s + earned_s - spent_s)
        left_s = self._left_s - waiting * self._mean_s
        if left_s <= 0:
            return 0
        return int(left_s / self._mean_s) + 1 if self._mean_s else 1 << 30
