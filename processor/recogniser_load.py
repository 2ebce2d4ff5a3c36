"""The measured seconds of a recogniser's calls, by which partials and early finals use only the idle rest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 5.0
"""Over which a recogniser's load is measured: some calls of each kind, and gone soon after a burst."""


class RecogniserLoad:
    """Seconds that calls took, in all and lately."""

    def __init__(self, max_parallel: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Measure a recogniser of which `max_parallel` calls run side by side."""
        self._max_parallel = max_parallel
        self._clock = clock
        self._ended: deque[tuple[float, float]] = deque()
        self._ended_s = 0.0
        self._running: dict[int, float] = {}
        self._yielding: set[int] = set()
        self.final_s = 0.0
        """In all: calls whose texts became, or may become, finals."""
        self.partial_s = 0.0
        """In all: calls for partials, and early finals whose utterance continued."""

    def begin(self, call: int, *, yields: bool = False) -> None:
        """Note the begin of a call; one that `yields` to live speech keeps nothing from it, and is no load."""
        self._running[call] = self._clock()
        if yields:
            self._yielding.add(call)

    def end(self, call: int, *, is_partial: bool) -> float:
        """Note the end of a call; returns how long it took."""
        now = self._clock()
        seconds = now - self._running.pop(call)
        if call in self._yielding:
            self._yielding.remove(call)
        else:
            self._ended.append((now, seconds))
            self._ended_s += seconds
        if is_partial:
            self.partial_s += seconds
        else:
            self.final_s += seconds
        return seconds

    def count_as_partial(self, seconds: float) -> None:
        """Move time of a final that no utterance needed to the partials: as such its text was used."""
        self.final_s -= seconds
        self.partial_s += seconds

    @property
    def busy_ratio(self) -> float:
        """Which part of the calls that could have run lately did run for live speech, 0 to 1."""
        now = self._clock()
        while self._ended and self._ended[0][0] < now - WINDOW_S:
            self._ended_s -= self._ended.popleft()[1]
        running_s = sum(
            min(WINDOW_S, now - since) for call, since in self._running.items() if call not in self._yielding
        )
        return min(1.0, (self._ended_s + running_s) / (WINDOW_S * self._max_parallel))
