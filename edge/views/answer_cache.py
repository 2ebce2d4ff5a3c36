"""Answers that many ask for again and again: worked out about once a second however many ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

FRESH_S = 1.0
"""Nothing that is told is older, unless the next takes long."""

AHEAD_S = 0.5
"""From this age on the next is worked out while this one is still told: who asks steadily never waits."""

STALE_S = 3.0
"""While the next takes longer than it should, this one is told up to this age: better than none from a busy process."""


class Recent(Generic[T]):
    """Answers shared by all who ask for the same; one question at a time of each kind, `most` kinds kept."""

    def __init__(self, ask: Callable[[str], Awaitable[T]], *, most: int = 1, stale_s: float = STALE_S) -> None:
        """Ask by `ask`, which gets the kind."""
        self._ask = ask
        self._most = most
        self._stale_s = stale_s
        self._answers: dict[str, tuple[float, T]] = {}
        self._asking: dict[str, asyncio.Task[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()  # forgotten ones too: the loop alone wouldn't keep them

    async def get(self, kind: str = "") -> T:
        """An answer that is fresh enough.

        Raises:
            LogUnavailableError: as `ask` does.
        """
        told = self._answers.get(kind)
        age_s = time.monotonic() - told[0] if told else 0.0
        was_asking = kind in self._asking
        if told is None or age_s >= AHEAD_S:
            asking = self._begin(kind)
            if told is None or age_s >= (self._stale_s if was_asking else FRESH_S):
                # Shielded: one who goes away doesn't take the answer from the others.
                return await asyncio.shield(asking)
        return told[1]

    def forget(self) -> None:
        """Whatever was answered so far isn't told any more."""
        self._answers.clear()
        self._asking.clear()

    def _begin(self, kind: str) -> asyncio.Task[T]:
        if kind not in self._asking:
            task = self._asking[kind] = asyncio.ensure_future(self._asked(kind))
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._settled(kind, done))
        return self._asking[kind]

    async def _asked(self, kind: str) -> T:
        answer = await self._ask(kind)
        if self._asking.get(kind) is asyncio.current_task():  # not one that was forgotten meanwhile
            self._answers.pop(kind, None)
            self._answers[kind] = time.monotonic(), answer
            while len(self._answers) > self._most:
                del self._answers[next(iter(self._answers))]
        return answer

    def _settled(self, kind: str, done: asyncio.Task[T]) -> None:
        self._tasks.discard(done)
        if self._asking.get(kind) is done:
            del self._asking[kind]
        if not done.cancelled():
            done.exception()  # told to whoever waits; nobody need to
