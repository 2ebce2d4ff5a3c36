"""How far uploads may be appended to: as far as who decodes them is willing to have them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server
from eventlog.work.heartbeats import read_all
from eventlog.work.uploads import ALIVE_MS, WORKER, read_credits

LOOK_S = 0.1
"""Between two looks whether a waiting upload may go on: its decoder has megabytes to work on meanwhile."""

STANDSTILL_S = 120.0
"""Without any step ahead, and without a living worker, after which a sender is told to come again: longer than it takes
to restart one, and well below the time after which a session is idle."""

TOUCH_S = 10.0
"""Between two signs of life of an upload whose sender is made to wait."""


class UploadCredit:
    """Asks how far uploads may be appended to, and whether anybody is there to take them."""

    def __init__(self, server: Server, ahead_bytes: int) -> None:
        """Ask `server`; `ahead_bytes` are allowed before an upload is begun to be decoded."""
        self._server = server
        self._ahead_bytes = ahead_bytes

    async def of(self, session_ids: Iterable[str]) -> list[int]:
        """Up to which byte each session's upload may be appended to.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        return await read_credits(self._server, list(session_ids), self._ahead_bytes)

    async def is_hopeless(self) -> bool:
        """Whether no worker lives that could take anything, as far as can be known."""
        try:
            beats = await read_all(self._server)
        except LogUnavailableError:
            return True
        return not any(one.role == WORKER and one.age_ms < ALIVE_MS for one in beats)


class ProgressTimeout:
    """How long one upload hasn't come any further."""

    def __init__(self) -> None:
        """It stands still from now on."""
        self._since = self._touched_at = time.monotonic()

    @property
    def is_long(self) -> bool:
        """Whether it is time to ask if anybody is there at all."""
        return time.monotonic() - self._since >= STANDSTILL_S

    def is_due(self) -> bool:
        """Whether it is time for a sign of life; says so once."""
        now = time.monotonic()
        if now - self._touched_at < TOUCH_S:
            return False
        self._touched_at = now
        return True

    def begin_again(self) -> None:
        """Somebody is there."""
        self._since = time.monotonic()
