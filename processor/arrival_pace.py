"""How far a session's audio comes ahead of the clock: whether it is live speech, or a backlog that is caught up."""

from __future__ import annotations

BEHIND_S = 5.0
"""So much more audio than time, and a session is behind. Above the few seconds that a client's network holds back, or
that a browser sends at once; below what recognisers need a noticeable time for."""

_MOST_S = 2 * BEHIND_S
_LEAK = 1.5
"""Seconds of audio forgotten per second, so that one that has caught up and speaks on is live after ten seconds."""


class ArrivalPace:
    """A leaky bucket of audio: live speech runs out as it comes in, and a backlog stays."""

    __slots__ = ("_ahead_s", "has_more", "read_at_s")

    def __init__(self) -> None:
        """Nothing is known yet: as if more audio waited than one read takes, until a read shows otherwise."""
        self._ahead_s = 0.0
        self.read_at_s = 0.0
        """When audio was last found, monotonic time in seconds."""
        self.has_more = True
        """Whether more audio may wait than the last read took."""

    @property
    def is_behind(self) -> bool:
        """Whether the last audio is a part of a backlog."""
        return self._ahead_s > BEHIND_S

    def add(self, audio_s: float, now_s: float, *, has_more: bool) -> None:
        """Note a read of `audio_s` of audio at a monotonic time."""
        # While audio waits unread, time proves nothing: the session is read no faster than it is recognised.
        leaked_s = 0.0 if self.has_more else (now_s - self.read_at_s) * _LEAK
        self._ahead_s = min(_MOST_S, max(0.0, self._ahead_s - leaked_s) + audio_s)
        self.read_at_s = now_s
        self.has_more = has_more
