"""Answers that many clients request again and again: fetched about once a second for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

FRESH_S = 1.0
"""No answer is older, unless the next fetch takes long."""

REFRESH_AFTER_S = 0.5
"""From this age on the next answer is fetched while this one is still given: steady clients never wait."""

STALE_S = 3.0
"""While the next fetch takes longer than it should, this one is given up to this age: better than none from a busy
process."""


class AnswerCache(Generic[T]):
    """Caches answers by key, and serves a stale one while it fetches the next. It never fetches a key twice at once."""

    def __init__(self, fetch: Callable[[str], Awaitable[T]], *, max_keys: int = 1, stale_s: float = STALE_S) -> None:
        """Fetch by `fetch`, which gets the key; keep the last `max_keys` answers."""
        self._fetch = fetch
        self._max_keys = max_keys
        self._stale_s = stale_s
        self._answers: dict[str, tuple[float, T]] = {}
        self._fetching: dict[str, asyncio.Task[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()  # invalidated ones too: the event loop alone would not keep them

    async def get(self, key: str = "") -> T:
        """Return an answer that is fresh enough.

        Raises:
            LogUnavailableError: as the fetch does.
        """
        cached = self._answers.get(key)
        age_s = time.monotonic() - cached[0] if cached else 0.0
        was_fetching = key in self._fetching
        if cached is None or age_s >= REFRESH_AFTER_S:
            fetching = self._begin(key)
            if cached is None or age_s >= (self._stale_s if was_fetching else FRESH_S):
                # Shielded: a caller that disconnects does not take the answer from the others.
                return await asyncio.shield(fetching)
        return cached[1]

    def invalidate(self) -> None:
        """Forget all answers, those being fetched included."""
        self._answers.clear()
        self._fetching.clear()

    def _begin(self, key: str) -> asyncio.Task[T]:
        if key not in self._fetching:
            task = self._fetching[key] = asyncio.ensure_future(self._fetch_and_keep(key))
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._on_done(key, done))
        return self._fetching[key]

    async def _fetch_and_keep(self, key: str) -> T:
        answer = await self._fetch(key)
        if self._fetching.get(key) is asyncio.current_task():  # not one that was invalidated meanwhile
            self._answers.pop(key, None)
            self._answers[key] = time.monotonic(), answer
            while len(self._answers) > self._max_keys:
                del self._answers[next(iter(self._answers))]
        return answer

    def _on_done(self, key: str, done: asyncio.Task[T]) -> None:
        self._tasks.discard(done)
        if self._fetching.get(key) is done:
            del self._fetching[key]
        if not done.cancelled():
            done.exception()  # raised in every waiter; a refresh without a waiter may fail silently
