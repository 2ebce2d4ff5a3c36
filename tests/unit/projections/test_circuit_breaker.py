"""When a failing receiver is left alone. No receivers here: the rule alone."""

from projections.webhooks.circuit_breaker import (
    FAILURES_BEFORE_REST,
    FIRST_REST_S,
    LONGEST_REST_S,
    MOST_KEPT,
    CircuitBreaker,
)
from tests.support.clock import Clock

ME = "one"


def rests(clock: Clock) -> CircuitBreaker:
    """Without chance."""
    return CircuitBreaker(clock, lambda: 1.0)


def fail(some: CircuitBreaker, times: int) -> list[bool]:
    """What each of so many failures says of a beginning rest."""
    return [some.failed(ME, "503") for _ in range(times)]


def test_odd_failures_mean_nothing() -> None:
    """Fewer failures in a row than the bound don't make a receiver rest."""
    clock = Clock()
    some = rests(clock)
    for _ in range(5):
        fail(some, FAILURES_BEFORE_REST - 1)
        assert some.reason(ME) is None
        some.succeeded(ME)
    assert some.failing_s(ME) == 0


def test_rests_grow_to_a_bound() -> None:
    """Each failed try doubles the rest up to a bound, and only the first failure too many tells of a beginning."""
    clock = Clock()
    some = rests(clock)
    assert fail(some, FAILURES_BEFORE_REST) == [False] * (FAILURES_BEFORE_REST - 1) + [True]
    for number in range(12):
        pause_s = min(LONGEST_REST_S, FIRST_REST_S * 2**number)
        clock.now_s += pause_s - 0.01
        assert some.reason(ME) == "503"
        clock.now_s += 0.02
        assert some.reason(ME) is None
        assert fail(some, 1) == [False]
    assert some.failing_s(ME) == clock.now_s - 1000


def test_failures_under_way_together_are_one() -> None:
    """Requests that were under way when a receiver began to rest don't lengthen its rest by failing too."""
    clock = Clock()
    some = rests(clock)
    fail(some, FAILURES_BEFORE_REST + 20)
    clock.now_s += FIRST_REST_S
    assert some.reason(ME) is None


def test_one_request_tries() -> None:
    """After a rest one may try, others wait for what it finds, and one that learnt nothing makes room for the next."""
    clock = Clock()
    some = rests(clock)
    fail(some, FAILURES_BEFORE_REST)
    clock.now_s += LONGEST_REST_S
    assert [some.reason(ME), some.reason(ME)] == [None, "503"]
    some.untried(ME)
    assert [some.reason(ME), some.reason(ME)] == [None, "503"]
    some.succeeded(ME)
    assert [some.reason(ME), some.reason(ME)] == [None, None]


def test_a_wish_to_rest_is_heeded_at_once() -> None:
    """A receiver that asks to be left alone is, from its first failure, and no shorter than others."""
    clock = Clock()
    some = rests(clock)
    assert some.failed(ME, "429", 100.0)
    clock.now_s += 99
    assert some.reason(ME) == "429"
    clock.now_s += 1
    assert some.reason(ME) is None


def test_tries_of_several_processes_are_spread() -> None:
    """Chance shortens a rest by up to a half."""
    clock = Clock()
    some = CircuitBreaker(clock, lambda: 0.0)
    fail(some, FAILURES_BEFORE_REST)
    clock.now_s += FIRST_REST_S / 2
    assert some.reason(ME) is None


def test_what_is_remembered_is_bounded() -> None:
    """Of more failing receivers than are remembered the ones that failed longest ago are forgotten."""
    some = rests(Clock())
    for number in range(MOST_KEPT + 10):
        some.failed(str(number), "503", 10.0)
    assert some.reason("0") is None
    assert some.reason(str(MOST_KEPT)) == "503"
