"""Live speech and backlogs, distinguished by how audio comes in."""

from processor.arrival_pace import BEHIND_S, ArrivalPace


def live(pace: ArrivalPace, since_s: float, seconds: int) -> list[bool]:
    """Whether a session is behind while it speaks for so long, after each chunk of 100 ms."""
    behind = []
    for number in range(10 * seconds):
        pace.add(0.1, since_s + number / 10, has_more=False)
        behind.append(pace.is_behind)
    return behind


def test_live_speech_is_never_behind() -> None:
    """A client that speaks in real time is not behind after ten minutes, nor one that held back three seconds."""
    pace = ArrivalPace()
    assert not any(live(pace, 1_000.0, 600))
    pace.add(3.0, 1_603.0, has_more=False)
    assert not any(live(pace, 1_603.1, 60))


def test_a_backlog_is_behind_until_it_is_read() -> None:
    """A session is behind while more audio waits than it may have read, however slowly it is read."""
    pace = ArrivalPace()
    for number in range(20):
        pace.add(8.0, 1_000.0 + 60 * number, has_more=True)
        assert pace.is_behind


def test_one_that_has_caught_up_is_live_again() -> None:
    """A client that resumed after an outage and speaks on is live within ten seconds of its last backlog."""
    pace = ArrivalPace()
    for number in range(20):
        pace.add(8.0, 1_000.0 + number, has_more=number < 19)
    behind = live(pace, 1_019.0, 60)
    assert behind[0]
    assert not any(behind[100:])


def test_a_short_recording_at_once_is_live() -> None:
    """A few seconds sent at once are not yet a backlog; somewhat more are."""
    short, long = ArrivalPace(), ArrivalPace()
    short.add(BEHIND_S, 1_000.0, has_more=False)
    long.add(BEHIND_S + 1, 1_000.0, has_more=False)
    assert (short.is_behind, long.is_behind) == (False, True)
