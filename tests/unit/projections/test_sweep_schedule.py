"""The order and pace in which partitions are swept."""

from hypothesis import given
from hypothesis import strategies as st

from projections.projection_loop import SLICES, SweepSchedule

PERIOD_S = 1.0


@given(partitions=st.integers(1, 100), pauses=st.lists(st.floats(0.0, 3.0), max_size=40))
def test_each_partition_is_swept_once_a_period(partitions: int, pauses: list[float]) -> None:
    """However late the loop is, no partition waits for longer than a period and the loop's own delays."""
    schedule, now = SweepSchedule(partitions, PERIOD_S), 0.0
    assert schedule.take(now) == list(range(partitions))
    swept = dict.fromkeys(range(partitions), 0.0)
    waits = [0.0] * SLICES
    for pause in pauses:
        now = schedule.next_at(all_due=False) + pause
        waits = [*waits[1:], pause]
        for number in schedule.take(now):
            swept[number] = now
        assert all(now - at <= PERIOD_S + sum(waits) + 0.001 for at in swept.values())


def test_while_redis_is_away_all_are_tried_once_a_period() -> None:
    """A whole sweep comes a period after the last look, and then everything is due."""
    schedule = SweepSchedule(64, PERIOD_S)
    schedule.take(5.0)
    assert schedule.next_at(all_due=True) == 6.0
    assert schedule.take(6.0) == list(range(64))
