"""How many errors a process logged lately: part of its heartbeats, so that one look shows the whole deployment's."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 300.0
"""What counts as lately: as long as a dead process's heartbeat stays listed, so that its errors are seen too."""

MAX_COUNTED = 10_000
"""Times kept: 80 kB; a process with more errors in five minutes needs no exact number."""


class ErrorCounter(logging.Handler):
    """Counts records of severity error and above; clients' mistakes aren't logged as one."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Count by the clock `now_s`."""
        super().__init__(logging.ERROR)
        self._now_s = now_s
        self._at_s: deque[float] = deque(maxlen=MAX_COUNTED)

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - the base class's signature
        """Keep the record's time, and nothing of its text."""
        self._at_s.append(self._now_s())

    def recent(self) -> int:
        """Return the number of errors in the last `WINDOW_S` seconds."""
        oldest_s = self._now_s() - WINDOW_S
        while self._at_s and self._at_s[0] < oldest_s:
            self._at_s.popleft()
        return len(self._at_s)


PROCESS_ERRORS = ErrorCounter()
"""The counter that heartbeats read; logging itself is the process's, and so is this."""


def install() -> None:
    """Count the errors of this process from now on."""
    logging.getLogger().addHandler(PROCESS_ERRORS)
