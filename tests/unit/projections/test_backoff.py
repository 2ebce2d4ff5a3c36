import math

from hypothesis import given
from hypothesis import strategies as st

from projections.forwarding.partition_assignment import fair_share, surplus
from projections.forwarding.run_scheduler import BASE_S, CAP_S, next_retry, retry_delay_s


@given(attempts=st.integers(1, 10_000), draw=st.floats(0, 1))
def test_pauses_are_spread_over_the_whole_bound(attempts: int, draw: float) -> None:
    """A pause is any part of a bound that doubles from a quarter of a second to half a minute (BATCH-6)."""
    bound_s = min(CAP_S, BASE_S * 2 ** min(attempts - 1, 20))
    assert math.isclose(retry_delay_s(attempts, draw), draw * bound_s)
    assert retry_delay_s(attempts, 1.0) <= retry_delay_s(attempts + 1, 1.0) <= CAP_S


def test_pauses_begin_small_and_end_at_the_cap() -> None:
    """The first bound is the base, and after some doublings it is the cap."""
    assert [retry_delay_s(attempts, 1.0) for attempts in (1, 2, 3, 7, 8, 100)] == [0.25, 0.5, 1.0, 16.0, 30.0, 30.0]


def test_failures_are_counted_for_each_event() -> None:
    """An event's failures count from its own first one, whatever failed before it."""
    first = next_retry(None, "a", 10.0)
    second = next_retry(first, "a", 20.0)
    assert (second.attempts, second.since_s) == (2, 10.0)
    assert next_retry(second, "b", 30.0)[:3] == ("b", 1, 30.0)


@given(partitions=st.integers(1, 4096), living=st.integers(0, 5000))
def test_shares_cover_everything_and_are_even(partitions: int, living: int) -> None:
    """Together the living can keep every partition, and none may keep one more than it takes."""
    most = fair_share(partitions, living)
    assert most * max(1, living) >= partitions
    assert (most - 1) * max(1, living) < partitions


@given(held=st.sets(st.integers(0, 63)), busy=st.sets(st.integers(0, 63)), most=st.integers(0, 64))
def test_a_surplus_is_given_up_idle_ones_first(held: set[int], busy: set[int], most: int) -> None:
    """Partitions over the share are released, at once where no event is under way, and later elsewhere."""
    now, soon = surplus(sorted(held), busy, most)
    assert len(now) + len(soon) == max(0, len(held) - most)
    assert set(now) | set(soon) <= held
    assert not set(now) & busy
    assert set(soon) <= busy
    assert not soon or set(now) == held - busy
