"""The facts of decisions: progress, labels, sources and ends, the same from any checkpoint."""

import hashlib
import os
import subprocess
import sys

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.events import Fact, ProgressNoted, SessionEnded, SessionSealed, SourceDescribed, SourceNoted
from eventlog.events import UtteranceFinal as Final
from eventlog.log import AudioEntry, Checkpoint
from eventlog.positions import OPENED, SEALED, Position
from processor.facts import MILESTONES_PERCENT, PROGRESS_S, FactBuilder
from processor.recognisers import Recognition
from processor.speech import Utterance
from processor.timeline import Decision, Timeline
from tests.support.deployment import Deployment
from tests.support.pcm import Story, talk
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async

RATE_HZ = 16_000
SPEECH = Utterance(start_samples=0, end_samples=3, decided_samples=9, pcm=b"\1\0\2\0\3\0", voiced_ms=900)
START = Story(talk()).start


def facts_of(
    decision: Decision, text: str | None = None, *, before_samples: int = 0, total_samples: int = 0,
    speaker_labels: str = "channel",
) -> list[Fact]:  # fmt: skip
    """The facts of a run's first decision, at the wall clock's zero."""
    builder = FactBuilder(msgspec.structs.replace(START, speaker_labels=speaker_labels), total_samples, lambda: 0)
    recognition = None if text is None else Recognition(text=text, confidence=1.0)
    found = builder.facts(decision, recognition, utterances=0, after=OPENED, before_samples=before_samples)
    return [fact for _, fact in found]


def test_facts_keep_what_was_recognised() -> None:
    """Options of a session change its published texts, those of open utterances too, and never a fact (WORD-8)."""
    start = msgspec.structs.replace(START, numerals=True, profanity_filter=True)
    builder, recognition = FactBuilder(start, 0, lambda: 0), Recognition(text="twenty shits", confidence=1.0)
    decision = Decision(Position(9, 0), (9,), utterance=SPEECH)
    [(_, final)] = builder.facts(decision, recognition, utterances=0, after=OPENED, before_samples=0)
    assert isinstance(final, Final)
    assert (final.text, final.numerals, final.profanity_filter) == ("twenty shits", True, True)
    [provisional] = builder.answer("one", 0, [(0, SPEECH, recognition)]).provisional
    assert provisional.text == "20 s***"
    plain = facts_of(decision, "twenty shits")[0]
    assert isinstance(plain, Final)
    assert (plain.text, plain.numerals, plain.profanity_filter) == ("twenty shits", False, False)


def progress(boundaries: list[int], total_samples: int, text: str = "") -> list[tuple[int, ProgressNoted]]:
    """The progress facts at a run's boundaries: (number of the boundary, fact)."""
    found, before = [], 0
    for number, boundary in enumerate(boundaries):
        decision = Decision(Position(boundary, 0), (boundary,), utterance=SPEECH)
        facts = facts_of(decision, text, before_samples=before, total_samples=total_samples)
        found += [(number, fact) for fact in facts if isinstance(fact, ProgressNoted)]
        before = boundary
    return found


def test_each_milestone_of_a_recording_is_stated_once() -> None:
    """A recording's progress is stated at the first boundary at or past 10, 25, 50, 75 and 90 % (STATUS-3)."""
    found = progress(list(range(10_000, 1_000_001, 10_000)), 1_000_000, "words")
    assert [fact.processed_samples // 10_000 for _, fact in found] == list(MILESTONES_PERCENT)
    assert {fact.total_samples for _, fact in found} == {1_000_000}


def test_milestones_passed_at_once_are_stated_once() -> None:
    """One boundary that passes several milestones states one fact, which says how far it is (STATUS-3)."""
    [(_, fact)] = progress([800_000], 1_000_000)
    assert fact.processed_samples == 800_000


def test_a_live_stream_states_progress_without_another_fact() -> None:
    """Without a known length, every few seconds at a boundary that states nothing else, and never beside a final."""
    grid = PROGRESS_S * RATE_HZ
    boundaries = [grid // 2, grid, grid + 160, 2 * grid - 160, 3 * grid + 160]
    assert [number for number, _ in progress(boundaries, 0)] == [1, 4]
    assert progress(boundaries, 0, "words") == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 100_000), min_size=2, max_size=40), st.integers(0, 2_000_000), st.booleans(), st.data()
)
def test_progress_is_the_same_from_any_checkpoint(
    steps: list[int], total: int, spoken: bool, data: st.DataObject  # noqa: FBT001
) -> None:
    """A worker that resumes from a checkpoint states the progress that an undisturbed run states after it."""
    boundaries = [int(one) for one in np.cumsum(steps)]
    text = "words" if spoken else ""
    whole = progress(boundaries, total, text)
    cut = data.draw(st.integers(1, len(boundaries) - 1))
    before = boundaries[cut - 1]
    decision = Decision(Position(boundaries[cut], 0), (boundaries[cut],), utterance=SPEECH)
    facts = facts_of(decision, text, before_samples=before, total_samples=total)
    assert [one for one in facts if isinstance(one, ProgressNoted)] == [fact for at, fact in whole if at == cut]


def label(pcm: bytes, channel: int = 0, labels: str = "hash") -> str:
    """The speaker of an utterance with these samples."""
    decision = Decision(Position(9, 0), (9,) * 2, channel=channel, utterance=utterance(pcm))
    [fact] = facts_of(decision, "words", speaker_labels=labels)
    assert isinstance(fact, Final)
    return fact.speaker


def utterance(pcm: bytes) -> Utterance:
    """An utterance of these samples."""
    return Utterance(start_samples=0, end_samples=len(pcm) // 2, decided_samples=9, pcm=pcm, voiced_ms=900)


def test_a_hash_label_is_drawn_from_the_samples_alone() -> None:
    """The same samples have the same label on any channel; others have another (LIVE-4)."""
    assert label(b"\1\0") == f"speaker-{hashlib.sha256(bytes([1, 0])).hexdigest()[:4]}"
    assert label(b"\1\0", channel=1) == label(b"\1\0")
    assert label(b"\2\0") != label(b"\1\0")
    assert [label(b"\1\0", channel, "channel") for channel in (0, 1)] == ["1", "2"]


def test_labels_are_the_same_in_every_process() -> None:
    """A label doesn't depend on the process that makes it, whatever seed Python's own hash has there (LIVE-4)."""
    program = (
        "from tests.integration.processor.test_facts import label; print(label(bytes(range(6))))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-B", "-c", program], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }  # fmt: skip
    assert said == {label(bytes(range(6))) + "\n"}


def test_a_described_source_begins_its_facts() -> None:
    """The description is the first decision, states the number of channels, and becomes the first fact."""
    start = msgspec.structs.replace(START, channels=0, encoding="container")
    timeline = Timeline(start, Checkpoint())
    event = SourceDescribed(sample_rate_hz=RATE_HZ, channels=2, container="webm", codec="opus", duration_samples=99)
    [decision] = timeline.feed(AudioEntry(Position(0, 2), None, msgspec.json.encode(event), 0))
    assert (decision.cursor, decision.boundaries, timeline.frame_bytes) == (Position(0, 2), (0, 0), 4)
    [fact] = facts_of(decision)
    noted = SourceNoted(sample_rate_hz=RATE_HZ, channels=2, container="webm", codec="opus", duration_samples=99)
    assert fact == noted


def test_a_session_that_fails_undescribed_ends_with_its_reason() -> None:
    """A session whose container says nothing ends with the seal's reason and detail as its only decision."""
    timeline = Timeline(msgspec.structs.replace(START, channels=0, encoding="container"), Checkpoint())
    sealed = SessionSealed(reason="failed", offset_samples=0, detail="begins like HTML")
    [decision] = timeline.feed(AudioEntry(SEALED, None, msgspec.json.encode(sealed), 0))
    assert facts_of(decision) == [
        SessionEnded(
            reason="failed", audio_samples=0, utterances=0, sample_rate_hz=RATE_HZ, ended_ms=0,
            detail="begins like HTML",
        )
    ]  # fmt: skip
    assert timeline.has_ended


async def test_a_silent_session_states_its_progress(deployment: Deployment) -> None:
    """A live session without speech states its progress every few seconds (STATUS-3)."""
    session = await deployment.open(Story(np.zeros((16_000 * 12, 1), np.int16), sealed=False))
    await deployment.started()
    await session.say()

    async def has_progress() -> bool:
        return len(await session.facts()) == 3

    await eventually_async(has_progress)
    assert await session.facts() == session.expected()
