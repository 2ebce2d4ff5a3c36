"""The fold behind status messages."""

from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import projections.status
from eventlog.events import CONTAINER, Fact, ProgressNoted, SessionEnded, SessionOpened, SourceNoted
from eventlog.keys import status_channel
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.projection.projection_log import RunFacts
from eventlog.readmodel.feed import FeedKind, decode_message
from eventlog.readmodel.statuses import format_duration
from projections.status import Status
from tests.integration.projections.facts import RATE_HZ, keys_of
from tests.integration.projections.model import Model

KEYS = keys_of("a-session")
OPENED_MS = 1_700_000_000_000
FIELDS = [
    "session_id", "status", "progress", "message", "timestamp", "duration_processed", "duration_total",
    "estimated_completion", "processing_speed",
]  # fmt: skip

Facts = list[tuple[Position, Fact]]


def start(encoding: str = "linear16") -> tuple[Position, Fact]:
    """The first fact of a live stream, or of a recording."""
    return OPENED, SessionOpened(
        session_id=KEYS.session_id, run="live", sample_rate_hz=RATE_HZ, channels=1, opened_ms=OPENED_MS,
        encoding=encoding,
    )


def progressed(*points: tuple[float, int], total_s: float = 0) -> Facts:
    """So many seconds of audio processed, so many ms after the start."""
    return [
        (Position(0, number), ProgressNoted(
            processed_samples=round(seconds * RATE_HZ), total_samples=round(total_s * RATE_HZ),
            sample_rate_hz=RATE_HZ, noted_ms=OPENED_MS + after_ms,
        ))
        for number, (seconds, after_ms) in enumerate(points, 3)
    ]  # fmt: skip


def source(total_s: float) -> tuple[Position, Fact]:
    """The description of a recording."""
    duration = round(total_s * RATE_HZ)
    return Position(0, 2), SourceNoted(
        sample_rate_hz=RATE_HZ, channels=1, container="ogg", codec="opus", duration_samples=duration
    )


def end(audio_s: float, *, reason: str = "stop", detail: str = "") -> tuple[Position, Fact]:
    """The last fact, twenty seconds after the start."""
    return SEALED, SessionEnded(
        reason=reason, audio_samples=round(audio_s * RATE_HZ), utterances=2, sample_rate_hz=RATE_HZ,
        ended_ms=OPENED_MS + 20_000, detail=detail,
    )


def published(facts: Facts) -> list[dict[str, Any]]:
    """The messages in the Stream."""
    model = Model(facts)
    model.project(Status(), KEYS, [facts])
    return [msgspec.json.decode(fields[1]) for fields in model.keys[KEYS.status].values()]


def recording(total_s: float, *points: tuple[float, int]) -> Facts:
    """A recording under way."""
    return [start(CONTAINER), source(total_s), *progressed(*points, total_s=total_s)]


def test_a_message_has_the_documented_fields() -> None:
    """A message carries the fields of STATUS-3, in seconds and ISO 8601 UTC, with an estimate of the end."""
    message = published(recording(40, (10, 5_000)))[-1]
    assert list(message) == FIELDS
    assert message == {
        "session_id": "a-session", "status": "processing", "progress": 25,
        "message": "25 % transcribed: 10 s of 40 s.", "timestamp": "2023-11-14T22:13:25.000+00:00",
        "duration_processed": 10.0, "duration_total": 40.0,
        "estimated_completion": "2023-11-14T22:13:40.000+00:00", "processing_speed": 2.0,
    }


def test_a_recording_publishes_each_milestone_once() -> None:
    """A recording is published at 10, 25, 50, 75, 90 and 100 %, each once, however it advances (STATUS-3)."""
    facts = [*recording(100, (4, 1), (12, 2), (13, 3), (60, 4), (60, 5), (89, 6)), end(100)]
    assert [message["progress"] for message in published(facts)] == [0, 0, 10, 25, 50, 75, 90, 100]
    assert [message["status"] for message in published(facts)] == ["processing"] * 7 + ["completed"]


@given(points=st.lists(st.floats(0, 130), max_size=30), total_s=st.floats(1, 120))
@example(points=[100.0], total_s=1.0)
def test_progress_never_goes_back(points: list[float], total_s: float) -> None:
    """Whatever a header claims and wherever the run is, progress rises through the milestones to 100 (STATUS-3)."""
    steps = [(seconds, number) for number, seconds in enumerate(sorted(points))]
    progress = [message["progress"] for message in published([*recording(total_s, *steps), end(total_s)])]
    assert progress == [0, 0, 10, 25, 50, 75, 90, 100]


def test_a_header_that_lied_is_no_progress() -> None:
    """A recording shorter than its header said goes from the last milestone it reached straight to its end."""
    assert [message["progress"] for message in published([*recording(100, (26, 1)), end(40)])] == [0, 0, 10, 25, 100]
    assert published([*recording(100, (26, 1)), end(40)])[-1]["duration_total"] == 40.0


def test_a_milestone_reached_to_the_sample_is_published() -> None:
    """A recording of any length is at 25 % once a quarter of its samples is processed, however seconds are rounded."""
    for samples in range(40_000, 40_400, 4):
        total_s = samples / RATE_HZ
        assert published(recording(total_s, (total_s / 4, 1)))[-1]["progress"] == 25


def test_a_live_stream_publishes_every_few_seconds() -> None:
    """A live stream has a message for each 3 s of audio at most, without progress or total (STATUS-3)."""
    facts = [start(), *progressed((1, 1_000), (2.9, 2_900), (3.1, 3_100), (5, 5_000), (9, 9_000))]
    found = published(facts)
    assert [(message["progress"], message["duration_total"]) for message in found] == [(None, None)] * 3
    assert [message["duration_processed"] for message in found] == [0.0, 3.1, 9.0]
    assert published([*facts, end(10)])[-1]["progress"] == 100


@pytest.mark.parametrize(("reason", "status"), [
    ("stop", "completed"), ("idle", "completed"), ("limit", "completed"), ("failed", "failed"), ("deleted", "failed"),
])
def test_the_reason_of_the_end_decides_the_last_status(reason: str, status: str) -> None:
    """The last message says completed or failed, by the reason of the end (STATUS-3)."""
    last = published([*recording(40, (10, 5_000)), end(40 if status == "completed" else 12, reason=reason)])[-1]
    assert (last["status"], last["progress"]) == (status, 100 if status == "completed" else 25)


def test_a_failure_says_why() -> None:
    """A failed recording's last message holds the reason and the progress (STATUS-3)."""
    last = published([*recording(40, (10, 5_000)), end(12, reason="failed", detail="the file is cut off")])[-1]
    assert last["message"] == "Failed: the file is cut off."
    assert (last["progress"], last["duration_processed"], last["duration_total"]) == (25, 12.0, 40.0)
    assert last["estimated_completion"] is None


def test_clocks_that_go_back_turn_no_message_back() -> None:
    """Timestamps never fall, and a clock before the session's start makes no speed of it."""
    found = published([start(), *progressed((4, -5_000), (8, 9_000), (12, 6_000))])
    times = [datetime.fromisoformat(message["timestamp"]) for message in found]
    assert times == sorted(times)
    assert found[1]["processing_speed"] is None


def test_an_absurd_length_breaks_nothing() -> None:
    """A header that claims ten thousand years still gives messages, without an estimate of the end."""
    message = published(recording(3e11, (1, 1_000)))[-1]
    assert message["estimated_completion"] is None


def test_messages_are_numbered_and_chained() -> None:
    """Stream ids count from 1, and each message on the channel names the one before it, so that a gap shows."""
    facts = [*recording(40, (20, 5_000)), end(40)]
    model = Model(facts)
    model.project(Status(), KEYS, [facts])
    ids = list(model.keys[KEYS.status])
    assert ids == [f"{number}-0" for number in range(1, len(ids) + 1)]
    messages = [decode_message(message) for _, message in model.messages]
    assert {message.kind for message in messages} == {FeedKind.STATUS}
    assert [message.position for message in messages] == ids
    assert [message.previous for message in messages] == ["0-0", *ids[:-1]]


def test_the_same_messages_go_out_on_the_documented_channel() -> None:
    """Each message is published on the session's status channel, those of replays are not (STATUS-5)."""
    facts = [*recording(40, (20, 5_000)), end(40)]
    live, replay = Model(facts), Model(facts)
    live.project(Status(), KEYS, [facts])
    replay.project(Status(), KEYS.session.run("r1"), [facts])
    retained = [fields[1] for fields in live.keys[KEYS.status].values()]
    assert live.announced == [(status_channel("a-session"), body) for body in retained]
    assert status_channel("a-session") == "transcription:status:a-session"
    assert replay.announced == []
    assert len(replay.keys[KEYS.session.run("r1").status]) == len(retained)


def test_the_last_messages_are_kept_for_a_while() -> None:
    """After the end the messages live for 300 s, before it as long as the session (STATUS-5)."""
    facts = [*recording(40, (20, 5_000)), end(40)]
    open_still, over = Model(facts), Model(facts)
    open_still.project(Status(), KEYS, [facts[:-1]])
    over.project(Status(), KEYS, [facts])
    assert (open_still.ttl_s, over.ttl_s) == ({}, {KEYS.status: 300})


def test_a_run_with_an_unreadable_beginning_has_messages() -> None:
    """Without its first fact a run still has messages; only its speed is unknown."""
    found = published([*progressed((4, 5_000)), end(5)])
    assert [message["status"] for message in found] == ["processing", "completed"]
    assert {message["processing_speed"] for message in found} == {None}


def test_durations_in_words() -> None:
    """Durations read as a person says them."""
    words = [format_duration(seconds) for seconds in (0, 12.4, 59.4, 63, 3600, 3725)]
    assert words == ["0 s", "12 s", "59 s", "1 min 3 s", "1 h 0 min", "1 h 2 min"]


def test_a_forgotten_message_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more runs than are remembered, each has all messages in a row, whichever round its facts come in."""
    monkeypatch.setattr(projections.status, "MOST_KNOWN", 128)
    status, runs = Status(), [keys_of(f"session-{number}") for number in range(300)]
    facts = [start(), *progressed(*((3.5 * number, 1_000 * number) for number in range(1, 6)))]
    model = Model(facts)
    after = START
    for position, fact in facts:
        for first in range(0, len(runs), 30):
            batches = [RunFacts(keys, after, [(position, fact)]) for keys in runs[first : first + 30]]
            answers = [[model._read(command) for command in status.reads(pulled)] for pulled in batches]
            for pulled, answer in zip(batches, answers, strict=True):
                for op in status.fold(pulled, answer):
                    getattr(model, "_" + op.command.lower())(op.key, *op.arguments)
        after = position
    assert {tuple(model.keys[keys.status]) for keys in runs} == {tuple(f"{number}-0" for number in range(1, 7))}
