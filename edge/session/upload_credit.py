"""How far ahead of their decoders uploads may be appended."""

from __future__ import annotations

import time
from collections.abc import Iterable

from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server
from eventlog.work.heartbeats import read_all
from eventlog.work.uploads import ALIVE_MS, WORKER, read_credits

POLL_S = 0.1
"""Between two checks whether a waiting sender may continue: its decoder has megabytes to work on meanwhile."""

PROGRESS_TIMEOUT_S = 120.0
"""Without progress, and without a living worker, after which a sender is refused: longer than a worker's restart takes,
and well below the time after which a session is idle."""

TOUCH_S = 10.0
"""Between two records of activity of a session whose sender has to wait."""


class UploadCredit:
    """Reads how far uploads may be appended, and whether any worker lives to take them."""

    def __init__(self, server: Server, ahead_bytes: int) -> None:
        """Read from `server`; an upload whose decoding has not begun may have `ahead_bytes`."""
        self._server = server
        self._ahead_bytes = ahead_bytes

    async def read(self, session_ids: Iterable[str]) -> list[int]:
        """Read up to which byte each session's upload may be appended.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        return await read_credits(self._server, list(session_ids), self._ahead_bytes)

    async def is_hopeless(self) -> bool:
        """Whether, as far as can be known, no worker lives that could take anything."""
        try:
            beats = await read_all(self._server)
        except LogUnavailableError:
            return True
        return not any(one.role == WORKER and one.age_ms < ALIVE_MS for one in beats)


class ProgressTimeout:
    """How long one sender has waited without progress."""

    def __init__(self) -> None:
        """Wait from now on."""
        self._since = self._touched_at = time.monotonic()

    @property
    def has_expired(self) -> bool:
        """Whether it is time to check that any worker lives."""
        return time.monotonic() - self._since >= PROGRESS_TIMEOUT_S

    def is_touch_due(self) -> bool:
        """Whether activity is to be recorded; True once each `TOUCH_S`."""
        now = time.monotonic()
        if now - self._touched_at < TOUCH_S:
            return False
        self._touched_at = now
        return True

    def restart(self) -> None:
        """Wait from now on again: a worker lives."""
        self._since = time.monotonic()
