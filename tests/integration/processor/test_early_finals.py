"""Finals recognised in the pause that ends their utterance: the same facts, sooner."""

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np
import pytest

from eventlog.positions import Position
from processor import arrival_pace
from processor.early_finals import MOST_WASTED
from processor.recognisers import Clip, RecogniserError
from processor.speech import SegmenterSettings
from processor.worker import Worker
from tests.support.deployment import Deployment, Session, finals_in, held
from tests.support.metric_samples import of, samples
from tests.support.pcm import Samples, Story, sentence
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async, lasting

SETTINGS = msgspec.to_builtins(SegmenterSettings())
SECOND = 16_000


def story(*parts: Samples | float) -> Story:
    """Speech and pauses in seconds, with the pause of 700 ms that sessions have by default."""
    samples = [np.zeros(int(part * SECOND), np.int16) if isinstance(part, float) else part for part in parts]
    return Story(np.concatenate(samples)[:, None], segmenter=SETTINGS)


@pytest.fixture(autouse=True)
def _takes_all_for_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival_pace, "BEHIND_S", float("inf"))  # these stories come in at once


def finals_recognised(recogniser: HeldRecogniser) -> list[Clip]:
    """The clips that were recognised as finals, early or not."""
    return [clip for call in recogniser.calls for clip in call if not clip.partial]


def outcomes(worker: Worker) -> dict[str, float]:
    """The number of early finals by outcome."""
    found = samples(worker._server.meter.exposition("")[0].decode())
    return {
        outcome: of(found, "stenolog_worker_early_finals_total", outcome=outcome)
        for outcome in ("recognised", "used", "wasted")
    }


async def say_up_to(session: Session, seconds: float) -> int:
    """Append the session's audio up to there; returns how many entries that is."""
    count = int(seconds * SECOND) // 1_600
    await session.say(session.entries[:count])
    return count


async def test_a_final_is_there_when_its_pause_ends(deployment: Deployment) -> None:
    """An utterance is recognised while its pause runs, and its final needs no second recognition."""
    recogniser = HeldRecogniser(is_open=True)
    worker = await deployment.started(recogniser, partials_per_s=0)
    said = sentence("0880")
    session = await deployment.open(story(0.5, said, 1.5))
    count = await say_up_to(session, 0.5 + len(said) / SECOND + 0.45)
    [early] = await eventually_async(lambda: finals_recognised(recogniser))
    assert await session.finals() == 0
    await session.say(session.entries[count:])
    await deployment.ended(session)
    [final] = finals_in(session.expected())
    assert await session.facts() == session.expected()
    assert early.pcm == session.story.samples[final.start_samples : final.end_samples, 0].tobytes()
    assert finals_recognised(recogniser) == [early]
    assert outcomes(worker) == {"recognised": 1, "used": 1, "wasted": 0}


async def test_an_early_final_serves_as_a_partial(single: Deployment) -> None:
    """In a pause no partial is recognised beside the early final, and none after it."""
    recogniser = HeldRecogniser(is_open=True)
    await single.started(recogniser, partial_interval_ms=60_000)
    said = sentence("0880")
    session = await single.open(story(0.5, said, 1.5))
    await say_up_to(session, 0.5 + len(said) / SECOND + 0.45)
    await eventually_async(lambda: finals_recognised(recogniser))
    partials = sum(clip.partial for call in recogniser.calls for clip in call)
    await lasting(0.3)
    assert sum(clip.partial for call in recogniser.calls for clip in call) == partials


async def test_speech_that_goes_on_wastes_one_recognition_per_pause(deployment: Deployment) -> None:
    """If speech continues the early final is counted as wasted, and the utterance's own final has all of it."""
    recogniser = HeldRecogniser(is_open=True)
    worker = await deployment.started(recogniser, partials_per_s=0)
    said = sentence("0880")
    session = await deployment.open(story(0.5, said, 0.5, said, 1.5))
    first = await say_up_to(session, 0.5 + len(said) / SECOND + 0.45)
    await eventually_async(lambda: len(finals_recognised(recogniser)) == 1)
    await lasting(0.2)  # several looks at the same pause
    assert len(finals_recognised(recogniser)) == 1
    await session.say(session.entries[first:])
    await deployment.ended(session)
    assert await session.facts() == session.expected()
    found = outcomes(worker)
    assert found["wasted"] >= 1
    assert found["recognised"] == found["used"] + found["wasted"]


async def test_a_final_waits_for_its_early_recognition(single: Deployment) -> None:
    """An utterance that ends while it is being recognised early gets that result, and is not recognised twice."""
    recogniser = HeldRecogniser()
    worker = await single.started(recogniser, partials_per_s=0)
    said = sentence("0880")
    session = await single.open(story(0.5, said, 1.5))
    count = await say_up_to(session, 0.5 + len(said) / SECOND + 0.45)
    await eventually_async(lambda: recogniser.calls)
    await session.say(session.entries[count:])
    [run] = worker.active_runs
    await eventually_async(lambda: run.timeline.has_ended)
    assert await session.finals() == 0
    recogniser.gate.set()
    await single.ended(session)
    assert await session.facts() == session.expected()
    assert len(finals_recognised(recogniser)) == 1


async def test_an_early_final_that_fails_is_no_failure(single: Deployment) -> None:
    """An engine that fails early is asked again for the final, and nothing is quarantined."""
    recogniser = HeldRecogniser(is_open=True)

    def fail(_clips: Sequence[Clip]) -> None:
        if len(recogniser.calls) == 1:
            raise RecogniserError("not now", retryable=False)

    recogniser.fail = fail
    await single.started(recogniser, partials_per_s=0)
    said = sentence("0880")
    session = await single.open(story(0.5, said, 1.5))
    count = await say_up_to(session, 0.5 + len(said) / SECOND + 0.45)
    await eventually_async(lambda: recogniser.calls)
    await session.say(session.entries[count:])
    await single.ended(session)
    assert await session.facts() == session.expected()
    assert len(finals_recognised(recogniser)) == 2


async def test_a_failure_after_the_end_is_tried_again(single: Deployment) -> None:
    """Once its utterance has ended an early recognition is the final's own: a passing failure is tried again."""
    recogniser = HeldRecogniser()

    def fail(_clips: Sequence[Clip]) -> None:
        if len(recogniser.calls) == 1:
            raise RecogniserError("busy", retryable=True)

    recogniser.fail = fail
    worker = await single.started(recogniser, partials_per_s=0)
    said = sentence("0880")
    session = await single.open(story(0.5, said, 1.5))
    count = await say_up_to(session, 0.5 + len(said) / SECOND + 0.45)
    await eventually_async(lambda: recogniser.calls)
    await session.say(session.entries[count:])
    [run] = worker.active_runs
    await eventually_async(lambda: run.timeline.has_ended)
    recogniser.gate.set()
    await single.ended(session)
    assert await session.facts() == session.expected()


async def test_none_is_early_while_finals_wait(single: Deployment) -> None:
    """While finals of other sessions wait, no utterance is recognised before it has ended."""
    recogniser, said = HeldRecogniser(max_batch=1), sentence("0880")
    worker = await single.started(recogniser, partials_per_s=0)
    others = [await single.spoken(story(said, 1.0)) for _ in range(3)]
    await held(worker, 3)
    await eventually_async(lambda: worker._recognition.waiting_live >= 2)
    session = await single.open(story(0.5, said, 1.5))
    count = await say_up_to(session, 0.5 + len(said) / SECOND + 0.45)
    await held(worker, 4)
    await eventually_async(lambda: any(
        speech.pause_ms >= 330 for run in worker.active_runs for _, speech in run.timeline.open_speech()
    ))  # fmt: skip
    worker._partials._look()
    assert worker._recognition._early.__len__() == 0
    recogniser.gate.set()
    await session.say(session.entries[count:])
    await single.ended(session, *others)


@pytest.mark.parametrize("early_final_ms", [0, 330])
async def test_facts_do_not_depend_on_early_finals(single: Deployment, early_final_ms: int) -> None:
    """With and without early finals, and through a takeover amid a pause, the facts are the same."""
    said = sentence("0880")
    whole = story(0.3, said, 0.45, sentence("0930"), 0.9, said[:24_000], 0.4, said, 1.2)
    worker = await single.started(early_final_ms=early_final_ms, partial_interval_ms=100, lease_ms=500)
    session = await single.open(whole)
    for first in range(0, len(session.entries), 3):
        await session.say(session.entries[first : first + 3])
        await lasting(0.03)
        worker._partials._look()
        if first == 60:
            await worker.stop()
            worker = await single.started(early_final_ms=early_final_ms, partial_interval_ms=100, lease_ms=500)
    await single.ended(session)
    assert await session.facts() == session.expected()
    assert (outcomes(worker)["used"] > 0) == (early_final_ms > 0)


async def test_a_client_that_stops_in_mid_word_is_recognised_before_its_pause_ends(deployment: Deployment) -> None:
    """WORD-5: once no audio comes the utterance is recognised, once, and the final of its pause needs no more."""
    recogniser = HeldRecogniser(is_open=True)
    worker = await deployment.started(recogniser, partials_per_s=0)
    muted = 2 * SECOND
    spoken = sentence("0880")
    voice = np.concatenate([np.zeros(SECOND // 2, np.int16), spoken])[:, None]
    session = await deployment.open(Story(voice, segmenter=SETTINGS, paused=[muted]))
    before = [entry for entry in session.entries if entry.position < Position(muted, 1)]
    await session.say(before)
    [early] = await eventually_async(lambda: finals_recognised(recogniser))
    await lasting(0.3)  # several looks at the same silence
    assert finals_recognised(recogniser) == [early]
    await session.say(session.entries[len(before) :])
    await deployment.ended(session)
    assert await session.facts() == session.expected()
    first = finals_in(session.expected())[0]
    assert early.pcm == session.story.samples[first.start_samples : first.end_samples, 0].tobytes()
    assert finals_recognised(recogniser).count(early) == 1
    assert outcomes(worker)["used"] >= 1


def has_recognised(recogniser: HeldRecogniser, least: int) -> bool:
    """Whether so many finals were recognised, early or not."""
    return len(finals_recognised(recogniser)) >= least


async def test_pauses_that_end_nothing_are_tried_less_often(single: Deployment) -> None:
    """After three early finals in vain in a row a channel's next pauses are passed over, and facts stay the same."""
    recogniser = HeldRecogniser(is_open=True)
    worker = await single.started(recogniser, partials_per_s=0)
    said = sentence("0880")[: 2 * SECOND]
    session = await single.open(story(0.5, *[part for _ in range(6) for part in (said, 0.5)], 1.0))
    at_s, said_up_to = 0.5, 0
    for number in range(5):
        at_s += len(said) / SECOND
        count = int((at_s + 0.45) * SECOND) // 1_600
        await session.say(session.entries[said_up_to:count])
        said_up_to = count
        at_s += 0.5
        if number < MOST_WASTED:
            await eventually_async(partial(has_recognised, recogniser, number + 1))
        await lasting(0.2)
    assert len(finals_recognised(recogniser)) == MOST_WASTED
    await session.say(session.entries[said_up_to:])
    await single.ended(session)
    assert await session.facts() == session.expected()
    assert outcomes(worker)["wasted"] >= 3
