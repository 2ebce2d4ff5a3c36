"""Progress of a replay, its speed and the time left."""

from stenolog.operations.replay.progress import WINDOW_S, Pace


def test_rate_and_time_left_follow_the_last_seconds() -> None:
    """REPLAY-1: the rate is that of the last seconds, and the time left follows from it."""
    pace = Pace(sessions=10, total_s=10_000)
    pace.at(0, 0)
    assert (pace.times_real_time, pace.left_s) == (0, None)
    pace.at(10, 1_000)
    assert (pace.times_real_time, pace.left_s) == (100, 90)
    for number in range(1, 11):  # slower from here on
        pace.at(10 + number * WINDOW_S / 10, 1_000 + number * 20)
    pace.at(10 + WINDOW_S, 1_200)
    assert pace.times_real_time == 10
    assert pace.left_s == 880


def test_what_was_done_before_counts_as_done_but_not_as_speed() -> None:
    """REPLAY-1: sessions that are skipped, and runs that were half done, shorten the rest and don't raise the rate."""
    pace = Pace(sessions=3, total_s=3_000)
    pace.end("skipped", 1_000)
    pace.at(0, 500)
    pace.at(10, 600)
    assert pace.times_real_time == 10
    assert pace.processed_s == 1_600
    pace.end("done", 1_000)
    pace.at(20, 0)
    assert (pace.over, pace.processed_s, pace.times_real_time) == (2, 2_000, 25)


def test_a_replay_that_stands_still_does_not_guess() -> None:
    """REPLAY-1: without progress the time left is unknown, and nothing is divided by zero."""
    pace = Pace(sessions=1, total_s=100)
    pace.at(5, 50)
    pace.at(5, 50)
    pace.at(9, 50)
    assert (pace.times_real_time, pace.left_s) == (0, None)
