"""Whether a client's frames have stopped, by the clock: what audio itself can't say. No input or output."""

from __future__ import annotations

LONGEST_GAP_S = 10.0
"""Between two frames of a client that still sends: pages and apps that collect audio collect a few seconds."""

STALL_S = 0.5
"""Between two looks this process itself stood still: frames may wait in its sockets, and that is no silence."""

GAP_FACTOR = 1.5
"""A frame that is late by less than half of its own length is on its way: networks and timers jitter."""


class PauseDetector:
    """Looks at one sender's progress at intervals, and reports each pause once.

    A frame is missed once none has come for `pause_ms`, but no sooner than the next one can be expected: after 5 s of
    audio at once the sender is silent for 5 s. Of a container no byte says how long it lasts, so there the times
    between its pieces count, of which the first two have to be waited for.
    """

    __slots__ = ("_bytes_per_s", "_expected_s", "_gaps_s", "_heard_at", "_is_open", "_looked_at", "_pause_s",
                 "_received_bytes")  # fmt: skip

    def __init__(self, pause_ms: int, bytes_per_s: int, now: float, *, is_open: bool = False) -> None:
        """Begin at `now`, monotonic time in seconds as all times here.

        Args:
            pause_ms: Wall time without a frame that is a pause; 0 reports none.
            bytes_per_s: Of the audio; 0 for a container.
            now: Monotonic time in seconds.
            is_open: Whether audio came before, from an earlier connection.
        """
        self._pause_s = pause_ms / 1000
        self._bytes_per_s = bytes_per_s
        self._expected_s = 0.0 if bytes_per_s else LONGEST_GAP_S
        self._gaps_s = (LONGEST_GAP_S, LONGEST_GAP_S)
        self._heard_at = self._looked_at = now
        self._is_open = is_open
        self._received_bytes = 0

    def look(self, now: float, received_bytes: int, durable_at: float) -> int:
        """Return for how many milliseconds no frame has come, if a pause is to be reported now, else 0.

        Args:
            now: The time of this look.
            received_bytes: All that was received so far.
            durable_at: When the log last took something: a frame came shortly before.
        """
        if received_bytes != self._received_bytes:
            self._expected_s = self._expect(self._looked_at, received_bytes - self._received_bytes)
            self._received_bytes, self._heard_at, self._is_open = received_bytes, self._looked_at, True
        if now - self._looked_at > STALL_S:
            self._heard_at += now - self._looked_at
        self._looked_at = now
        self._heard_at = max(self._heard_at, durable_at)
        silent_s = now - self._heard_at
        if not self._is_open or not self._pause_s or silent_s < max(self._pause_s, self._expected_s):
            return 0
        self._is_open = False
        return round(1000 * silent_s)

    def has_unreported_audio(self, received_bytes: int) -> bool:
        """Whether audio has come since the last pause, `received_bytes` having been received by now."""
        return self._is_open or received_bytes != self._received_bytes

    def _expect(self, came_at: float, size_bytes: int) -> float:
        """How long after a frame of this size, which came at `came_at`, the next one may take."""
        if self._bytes_per_s:
            return GAP_FACTOR * min(LONGEST_GAP_S, size_bytes / self._bytes_per_s)
        self._gaps_s = (self._gaps_s[1], min(LONGEST_GAP_S, came_at - self._heard_at))
        return GAP_FACTOR * max(self._gaps_s)


def expected_pause_s(pause_ms: int, audio_s: float | None) -> float:
    """How long after a single piece of audio its sender has paused; `audio_s` None for a container's bytes."""
    piece_s = LONGEST_GAP_S if audio_s is None else GAP_FACTOR * min(LONGEST_GAP_S, audio_s)
    return max(pause_ms / 1000, piece_s)
