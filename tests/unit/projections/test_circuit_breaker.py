"""The circuit breaker alone, without receivers."""

from projections.webhooks.circuit_breaker import (
    FAILURE_THRESHOLD,
    FIRST_OPEN_S,
    LONGEST_OPEN_S,
    MOST_CIRCUITS,
    CircuitBreaker,
)
from tests.support.clock import Clock

ME = "one"


def a_breaker(clock: Clock) -> CircuitBreaker:
    """A breaker whose pauses are as long as they may be."""
    return CircuitBreaker(clock, lambda: 1.0)


def fail(breaker: CircuitBreaker, times: int) -> list[bool]:
    """Whether each of so many failures opened the circuit."""
    return [breaker.record_failure(ME, "503") for _ in range(times)]


def test_single_failures_leave_a_circuit_closed() -> None:
    """Fewer failures in a row than the threshold don't open a circuit."""
    breaker = a_breaker(Clock())
    for _ in range(5):
        fail(breaker, FAILURE_THRESHOLD - 1)
        assert breaker.allows_request(ME)
        breaker.record_success(ME)
    assert breaker.failing_s(ME) == 0


def test_a_circuit_stays_open_for_longer_each_time_up_to_a_bound() -> None:
    """Each failed probe doubles the pause up to a bound, and only the failure at the threshold opens the circuit."""
    clock = Clock()
    breaker = a_breaker(clock)
    assert fail(breaker, FAILURE_THRESHOLD) == [False] * (FAILURE_THRESHOLD - 1) + [True]
    for number in range(12):
        clock.now_s += min(LONGEST_OPEN_S, FIRST_OPEN_S * 2**number) - 0.01
        assert (breaker.allows_request(ME), breaker.reason(ME)) == (False, "503")
        clock.now_s += 0.02
        assert breaker.allows_request(ME)
        assert fail(breaker, 1) == [False]
    assert breaker.failing_s(ME) == clock.now_s - 1000


def test_failures_under_way_together_are_one() -> None:
    """Requests that were under way when a circuit opened don't keep it open for longer by failing too."""
    clock = Clock()
    breaker = a_breaker(clock)
    fail(breaker, FAILURE_THRESHOLD + 20)
    clock.now_s += FIRST_OPEN_S
    assert breaker.allows_request(ME)


def test_one_request_probes_a_half_open_circuit() -> None:
    """One request probes while others wait for its result, and one without a result makes room for the next."""
    clock = Clock()
    breaker = a_breaker(clock)
    fail(breaker, FAILURE_THRESHOLD)
    clock.now_s += LONGEST_OPEN_S
    assert [breaker.allows_request(ME), breaker.allows_request(ME)] == [True, False]
    breaker.release(ME)
    assert [breaker.allows_request(ME), breaker.allows_request(ME)] == [True, False]
    breaker.record_success(ME)
    assert [breaker.allows_request(ME), breaker.allows_request(ME)] == [True, True]


def test_retry_after_opens_a_circuit_at_once() -> None:
    """A receiver that asks for a pause gets it from its first failure on, and no shorter one than others."""
    clock = Clock()
    breaker = a_breaker(clock)
    assert breaker.record_failure(ME, "429", 100.0)
    clock.now_s += 99
    assert (breaker.allows_request(ME), breaker.reason(ME)) == (False, "429")
    clock.now_s += 1
    assert breaker.allows_request(ME)


def test_probes_of_several_processes_are_spread() -> None:
    """Chance shortens the time in which a circuit is open by up to a half."""
    clock = Clock()
    breaker = CircuitBreaker(clock, lambda: 0.0)
    fail(breaker, FAILURE_THRESHOLD)
    clock.now_s += FIRST_OPEN_S / 2
    assert breaker.allows_request(ME)


def test_circuits_are_bounded() -> None:
    """Of more failing receivers than fit, the ones that failed longest ago are forgotten."""
    breaker = a_breaker(Clock())
    for number in range(MOST_CIRCUITS + 10):
        breaker.record_failure(str(number), "503", 10.0)
    assert breaker.allows_request("0")
    assert not breaker.allows_request(str(MOST_CIRCUITS))
