"""Answers that are shared: one question at a time, and none of them too old."""

import asyncio

import pytest

from edge.views import answer_cache
from edge.views.answer_cache import AnswerCache
from tests.support.waiting import eventually_async


class Source:
    """Counts what it is asked, and answers when it is let."""

    def __init__(self) -> None:
        """Answers at once."""
        self.requests: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self, kind: str) -> int:
        """Count the question, and answer with the count."""
        self.requests.append(kind)
        number = len(self.requests)
        await self.may_answer.wait()
        return number


class Clock:
    """A clock that stands."""

    def __init__(self) -> None:
        """Begin somewhere."""
        self.now_s = 100.0

    def monotonic(self) -> float:
        """The time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that answers age by."""
    found = Clock()
    monkeypatch.setattr(answer_cache, "time", found)
    return found


async def test_concurrent_callers_share_an_answer(clock: Clock) -> None:
    """However many ask for the same, it is worked out once, and again only when it has aged."""
    source = Source()
    source.may_answer.clear()
    recent = AnswerCache(source.ask, max_keys=2)
    asking = [asyncio.create_task(recent.get(kind)) for kind in "aab"]
    await eventually_async(lambda: source.requests == ["a", "b"])
    asking[0].cancel()
    source.may_answer.set()
    assert await asyncio.gather(*asking[1:]) == [1, 2]
    assert await recent.get("a") == 1
    clock.now_s += answer_cache.FRESH_S
    assert await recent.get("a") == 3


async def test_the_next_answer_is_fetched_ahead(clock: Clock) -> None:
    """Steady callers get the last answer while the next one is under way, but none that is too old."""
    source = Source()
    recent = AnswerCache(source.ask)
    assert await recent.get() == 1
    source.may_answer.clear()
    clock.now_s += answer_cache.REFRESH_AFTER_S
    assert await recent.get() == 1
    await eventually_async(lambda: len(source.requests) == 2)
    clock.now_s += answer_cache.FRESH_S
    assert await recent.get() == 1
    clock.now_s += answer_cache.STALE_S
    waiting = asyncio.create_task(recent.get())
    source.may_answer.set()
    assert await waiting == 2
    assert len(source.requests) == 2


async def test_an_invalidated_answer_is_fetched_again(clock: Clock) -> None:
    """After an invalidation no older answer is given, nor one that was under way."""
    source = Source()
    source.may_answer.clear()
    recent = AnswerCache(source.ask)
    older = asyncio.create_task(recent.get())
    await eventually_async(lambda: source.requests)
    recent.invalidate()
    source.may_answer.set()
    assert await recent.get() == 2
    assert await older == 1
    assert await recent.get() == 2
    assert clock.now_s == 100.0


async def test_a_failure_is_raised_and_not_cached() -> None:
    """A question that failed is asked again by the next."""
    failures = [ValueError("away")]

    async def ask(_kind: str) -> int:
        if failures:
            raise failures.pop()
        return 1

    recent = AnswerCache(ask)
    with pytest.raises(ValueError, match="away"):
        await recent.get()
    assert await recent.get() == 1
