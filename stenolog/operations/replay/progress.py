"""How far a replay is, how fast, and how long it will take: pure, the clock is the caller's."""

from __future__ import annotations

from collections import Counter, deque

WINDOW_S = 20.0
"""The rate is that of so many last seconds: long enough to be steady, short enough to follow what holds a replay up."""


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
        self._under_way_s = 0.0
        self._seen: deque[tuple[float, float]] = deque()

    @property
    def over(self) -> int:
        """Sessions that nothing more is done for."""
        return self.counts.total()

    @property
    def processed_s(self) -> float:
        """Audio that needs no more work: processed, or of sessions that were skipped or failed."""
        return min(self.total_s, self._idle_s + self.done_s + self._under_way_s)

    @property
    def times_real_time(self) -> float:
        """How fast it is now; 0 while that isn't known."""
        if len(self._seen) < 2:  # noqa: PLR2004 - a rate takes two looks
            return 0.0
        (before, from_s), (now, to_s) = self._seen[0], self._seen[-1]
        return max(0.0, to_s - from_s) / (now - before) if now > before else 0.0

    @property
    def left_s(self) -> float | None:
        """How long the rest will take at this rate, None if nobody knows."""
        rate = self.times_real_time
        return (self.total_s - self.processed_s) / rate if rate > 0 else None

    def end(self, status: str, audio_s: float) -> None:
        """Note that a session of that length is over."""
        self.counts[status] += 1
        if status == "done":
            self.done_s += audio_s
        else:
            self._idle_s += audio_s

    def at(self, now_s: float, under_way_s: float) -> None:
        """Note how much audio of the sessions under way is processed at a moment of a monotonic clock."""
        self._under_way_s = under_way_s
        self._seen.append((now_s, self.done_s + under_way_s))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= WINDOW_S:  # noqa: PLR2004
            self._seen.popleft()
