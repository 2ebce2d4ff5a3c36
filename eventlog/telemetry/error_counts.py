"""How many errors a process logged lately: told in its heartbeats, so that one look shows the whole deployment's."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 300.0
"""What counts as lately: as long as a dead process's heartbeat stays listed, so that its errors are seen too."""

MOST_COUNTED = 10_000
"""Times kept: 80 kB; a process with more errors in five minutes needs no exact number."""


class ErrorCount(logging.Handler):
    """Counts records of severity error and above; what clients do wrong isn't logged as one."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Count by the clock `now_s`."""
        super().__init__(logging.ERROR)
        self._now_s = now_s
        self._at_s: deque[float] = deque(maxlen=MOST_COUNTED)

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - the base class's signature
        """Note that there was one; nothing of what it says is kept."""
        self._at_s.append(self._now_s())

    def recent(self) -> int:
        """How many there were in the last `WINDOW_S` seconds."""
        oldest_s = self._now_s() - WINDOW_S
        while self._at_s and self._at_s[0] < oldest_s:
            self._at_s.popleft()
        return len(self._at_s)


OF_THIS_PROCESS = ErrorCount()
"""What the heartbeats tell; logging itself is the process's, and so is this."""


def watch() -> None:
    """Count the errors of this process from now on."""
    logging.getLogger().addHandler(OF_THIS_PROCESS)
