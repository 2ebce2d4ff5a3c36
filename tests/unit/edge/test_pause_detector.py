"""The detector of pauses, looked at every 100 ms as an edge does."""

from collections.abc import Iterable

import pytest

from edge.session.pause_detector import LONGEST_GAP_S, PauseDetector, expected_pause_s

PCM_BYTES_PER_S = 32_000
LOOKS_PER_S = 10


def pauses(
    sent: Iterable[tuple[float, int]], until_s: float, *, pause_ms: int = 2_000, bytes_per_s: int = PCM_BYTES_PER_S,
    is_open: bool = False,
) -> list[tuple[float, int]]:  # fmt: skip
    """When pauses are reported, with their length: of a sender of (time, bytes) whose audio is durable 10 ms later."""
    detector, left = PauseDetector(pause_ms, bytes_per_s, 0.0, is_open=is_open), sorted(sent)
    found, received_bytes, durable_at = [], 0, 0.0
    for look in range(1, round(until_s * LOOKS_PER_S) + 1):
        now = look / LOOKS_PER_S
        while left and left[0][0] < now:
            at, size_bytes = left.pop(0)
            received_bytes, durable_at = received_bytes + size_bytes, at + 0.01
        if silent_ms := detector.look(now, received_bytes, durable_at):
            found.append((now, silent_ms))
    return found


def speech(first_s: float, last_s: float, every_s: float = 0.1) -> list[tuple[float, int]]:
    """Frames of live speech, each as long as the time to the next."""
    size_bytes = round(every_s * PCM_BYTES_PER_S)
    return [(first_s + every_s * number, size_bytes) for number in range(round((last_s - first_s) / every_s))]


def test_a_pause_is_reported_once_until_frames_come_again() -> None:
    """Frames that stop for 2 s are one pause, however long it lasts, and so is the next one (WORD-5)."""
    found = pauses([*speech(0, 3), *speech(20, 21)], 60)
    assert [round(at - silent_ms / 1000, 1) for at, silent_ms in found] == [2.9, 20.9]
    assert all(2_000 <= silent_ms <= 2_200 for _, silent_ms in found)


def test_a_client_that_keeps_sending_has_no_pause() -> None:
    """Frames at any usual pace, silent ones too, are no pause."""
    assert pauses(speech(0, 30), 30) == []


@pytest.mark.parametrize("every_s", [1.0, 3.0, 5.0])
def test_pieces_of_several_seconds_are_awaited(every_s: float) -> None:
    """A client that collects some seconds of audio for each frame has no pause between them, and one behind them."""
    sent = speech(0, 30, every_s)
    [(at, _)] = pauses(sent, 60)
    assert sent[-1][0] + max(2.0, every_s) < at <= sent[-1][0] + max(2.2, 1.5 * every_s + 0.2)


@pytest.mark.parametrize("every_s", [0.25, 1.0, 4.0])
def test_the_pieces_of_a_container_are_awaited_by_their_pace(every_s: float) -> None:
    """Of a container the pace of its pieces counts, for its bytes don't say how long they last."""
    sent = speech(0, 40, every_s)
    [(at, _)] = pauses(sent, 80, bytes_per_s=0)
    assert sent[-1][0] + 2.0 <= at <= sent[-1][0] + max(2.0, 1.5 * (every_s + 0.2)) + 0.2


def test_the_second_piece_of_a_container_is_waited_for() -> None:
    """A first piece shows no pace: its pause is reported late rather than amid the speech."""
    [(at, _)] = pauses([(0.0, 9_000)], 60, bytes_per_s=0)
    assert at >= 1.5 * LONGEST_GAP_S


def test_without_audio_no_pause_is_reported() -> None:
    """A client that has sent nothing yet has no pause, unless its session came with audio (WORD-5)."""
    assert pauses([], 30) == []
    [(at, _)] = pauses([], 30, is_open=True)
    assert 2.0 <= at <= 2.1


def test_a_process_that_stood_still_reports_no_pause() -> None:
    """After a halt of the edge itself frames may wait in its sockets: its duration is no silence of the client's."""
    detector = PauseDetector(2_000, PCM_BYTES_PER_S, 0.0)
    assert detector.look(0.1, 3_200, 0.05) == 0
    assert detector.look(9.0, 3_200, 0.05) == 0
    assert detector.look(9.1, 6_400, 9.05) == 0
    looks = [detector.look(9.1 + number / LOOKS_PER_S, 6_400, 9.05) for number in range(1, 30)]
    assert [silent_ms for silent_ms in looks if silent_ms] == [2_050]


def test_no_pause_is_reported_if_none_is_wanted() -> None:
    """A deployment can turn pauses off."""
    assert pauses(speech(0, 3), 60, pause_ms=0) == []


def test_a_request_is_followed_by_another_after_its_own_length() -> None:
    """A client by requests is given one and a half of its chunk's length; a container's piece the longest time."""
    assert expected_pause_s(2_000, 0.1) == 2.0
    assert expected_pause_s(2_000, 4.0) == 6.0
    assert expected_pause_s(2_000, None) == LONGEST_GAP_S
    assert expected_pause_s(2_000, 1_000.0) == 1.5 * LONGEST_GAP_S
