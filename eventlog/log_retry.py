"""Calls that are repeated while the log is unavailable, with a growing pause between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventlog.log import LogUnavailableError

T = TypeVar("T")

FIRST_PAUSE_S = 0.05
"""After a failed call: a dropped connection is back at once."""

LONGEST_PAUSE_S = 0.5
"""A failover takes seconds: short against a speaker's patience, long against a busy loop."""

_DOUBLINGS = 10  # past every longest pause; without an end the power would overflow in a long outage


def retry_pause_s(failures: int, longest_s: float = LONGEST_PAUSE_S) -> float:
    """Return the pause after that many failed calls in a row, at least one: doubling, up to `longest_s`."""
    return min(longest_s, FIRST_PAUSE_S * 2.0 ** min(failures - 1, _DOUBLINGS))


class LogRetry:
    """One caller's outage: how often and for how long its calls have failed in a row."""

    def __init__(self, on_failure: Callable[[LogUnavailableError, float], None]) -> None:
        """Call `on_failure` with each error and the seconds since the first; it may raise to end the retries."""
        self._on_failure = on_failure
        self._failures = 0
        self._failing_since = 0.0

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat `call`, which must be harmless twice, until the log answers."""
        while True:
            try:
                answer = await call()
            except LogUnavailableError as error:
                await self.back_off(error)
            else:
                self.reset()
                return answer

    async def back_off(self, error: LogUnavailableError) -> None:
        """Count a failed call, report it, and pause."""
        now = time.monotonic()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        self._on_failure(error, now - self._failing_since)
        await asyncio.sleep(retry_pause_s(self._failures))

    def reset(self) -> None:
        """The log answered: the next failure is the first."""
        self._failures = 0
