"""Waits for Redis or an archive where a person would: it says so once, and goes on when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventlog.log import LogUnavailableError

Value = TypeVar("Value")

RETRY_S = 0.5
"""Between two tries: a restart of Redis takes seconds, and nobody waits for the answer itself."""


class Retry:
    """Asks again for as long as what is asked can't be reached or can't take writes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` gets a line when the waiting begins, and one when it is over."""
        self._tell = tell
        self._waits = False

    async def __call__(self, ask: Callable[[], Awaitable[Value]]) -> Value:
        """What `ask` answers, however long that takes; it must be harmless to ask twice."""
        while True:
            try:
                answer = await ask()
            except LogUnavailableError as error:
                if not self._waits:
                    self._tell(f"waiting, and trying again: {error}")
                self._waits = True
                await asyncio.sleep(RETRY_S)
                continue
            if self._waits:
                self._tell("it works again")
                self._waits = False
            return answer
