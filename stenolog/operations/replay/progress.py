"""Progress of a replay, its speed and the time left: pure, the caller gives the time."""

from __future__ import annotations

from collections import Counter, deque

WINDOW_S = 20.0
"""The rate is that of the last seconds: long enough to be steady, short enough to show a slow-down."""


class Pace:
    """The numbers of one replay."""

    def __init__(self, *, sessions: int = 0, total_s: float = 0.0) -> None:
        """Of so many sessions with so much audio."""
        self.sessions = sessions
        self.total_s = total_s
        self.counts: Counter[str] = Counter()
        """Sessions that are over, by how."""
        self.done_s = 0.0
        """Audio of sessions that this replay has finished."""
        self._idle_s = 0.0
        self._running_s = 0.0
        self._readings: deque[tuple[float, float]] = deque()

    @property
    def over(self) -> int:
        """Sessions that nothing more is done for."""
        return self.counts.total()

    @property
    def processed_s(self) -> float:
        """Audio that needs no more work: processed, or of sessions that were skipped or failed."""
        return min(self.total_s, self._idle_s + self.done_s + self._running_s)

    @property
    def times_real_time(self) -> float:
        """How fast it is now; 0 while that isn't known."""
        if len(self._readings) < 2:  # noqa: PLR2004 - a rate takes two looks
            return 0.0
        (before, from_s), (now, to_s) = self._readings[0], self._readings[-1]
        return max(0.0, to_s - from_s) / (now - before) if now > before else 0.0

    @property
    def left_s(self) -> float | None:
        """Time that the rest takes at this rate, None while unknown."""
        rate = self.times_real_time
        return (self.total_s - self.processed_s) / rate if rate > 0 else None

    def end(self, status: str, audio_s: float) -> None:
        """Note that a session of that length is over."""
        self.counts[status] += 1
        if status == "done":
            self.done_s += audio_s
        else:
            self._idle_s += audio_s

    def at(self, now_s: float, running_s: float) -> None:
        """Note how much audio of the running sessions is processed at a moment of a monotonic clock."""
        self._running_s = running_s
        self._readings.append((now_s, self.done_s + running_s))
        while len(self._readings) > 2 and now_s - self._readings[1][0] >= WINDOW_S:  # noqa: PLR2004
            self._readings.popleft()
