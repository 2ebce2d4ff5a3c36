"""Numbers over all sessions, worked out at most once a second however many ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

FRESH_S = 1.0
"""Nothing that is told is older."""

AHEAD_S = 0.5
"""From this age on the next is worked out while this one is still told: who asks steadily never waits."""

MOST_KEPT = 1000
"""Tenants whose numbers are kept at a time: some 500 bytes each."""


class Recent(Generic[T]):
    """Answers that are shared by all who ask for the same within `FRESH_S`; one question at a time of each kind."""

    def __init__(self, ask: Callable[[str], Awaitable[T]]) -> None:
        """Ask by `ask`, which gets the kind."""
        self._ask = ask
        self._answers: dict[str, tuple[float, T]] = {}
        self._asking: dict[str, asyncio.Task[T]] = {}

    async def get(self, kind: str = "") -> T:
        """An answer that is fresh enough.

        Raises:
            LogUnavailableError: as `ask` does.
        """
        told_at, answer = self._answers.get(kind, (-FRESH_S, None))
        age_s = time.monotonic() - told_at
        if age_s >= AHEAD_S or answer is None:
            asking = self._begin(kind)
            if age_s >= FRESH_S or answer is None:
                # Shielded: one who goes away doesn't take the answer from the others.
                return await asyncio.shield(asking)
        return answer

    def _begin(self, kind: str) -> asyncio.Task[T]:
        if kind not in self._asking:
            task = asyncio.ensure_future(self._asked(kind))
            self._asking[kind] = task
            task.add_done_callback(lambda done: self._settled(kind, done))
        return self._asking[kind]

    async def _asked(self, kind: str) -> T:
        asked_at = time.monotonic()
        answer = await self._ask(kind)
        self._answers[kind] = asked_at, answer
        if len(self._answers) > MOST_KEPT:
            del self._answers[next(iter(self._answers))]
        return answer

    def _settled(self, kind: str, done: asyncio.Task[T]) -> None:
        del self._asking[kind]
        if not done.cancelled():
            done.exception()  # told to whoever waits; nobody need to
