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
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self, kind: str) -> int:
        """How many questions there were."""
        self.asked.append(kind)
        number = len(self.asked)
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


async def test_those_who_ask_at_once_share_an_answer(clock: Clock) -> None:
    """However many ask for the same, it is worked out once, and again only when it has aged."""
    source = Source()
    source.may_answer.clear()
    recent = AnswerCache(source.ask, max_keys=2)
    asking = [asyncio.create_task(recent.get(kind)) for kind in "aab"]
    await eventually_async(lambda: source.asked == ["a", "b"])
    asking[0].cancel()
    source.may_answer.set()
    assert await asyncio.gather(*asking[1:]) == [1, 2]
    assert await recent.get("a") == 1
    clock.now_s += answer_cache.FRESH_S
    assert await recent.get("a") == 3


async def test_the_next_is_worked_out_ahead(clock: Clock) -> None:
    """Who asks steadily is told the last answer while the next one is under way, but none that is too old."""
    source = Source()
    recent = AnswerCache(source.ask)
    assert await recent.get() == 1
    source.may_answer.clear()
    clock.now_s += answer_cache.REFRESH_AFTER_S
    assert await recent.get() == 1
    await eventually_async(lambda: len(source.asked) == 2)
    clock.now_s += answer_cache.FRESH_S
    assert await recent.get() == 1
    clock.now_s += answer_cache.STALE_S
    waiting = asyncio.create_task(recent.get())
    source.may_answer.set()
    assert await waiting == 2
    assert len(source.asked) == 2


async def test_what_is_forgotten_is_asked_again(clock: Clock) -> None:
    """After a change nothing older is told, an answer that was under way neither."""
    source = Source()
    source.may_answer.clear()
    recent = AnswerCache(source.ask)
    older = asyncio.create_task(recent.get())
    await eventually_async(lambda: source.asked)
    recent.invalidate()
    source.may_answer.set()
    assert await recent.get() == 2
    assert await older == 1
    assert await recent.get() == 2
    assert clock.now_s == 100.0


async def test_a_failure_is_told_and_not_kept() -> None:
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
