"""A worker against a real Redis: from audio in the log to facts in the log."""

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np
import pytest

from eventlog.codec import decode_fact
from eventlog.events import SessionEnded
from eventlog.log import Code
from eventlog.positions import Position
from processor.recognisers import Clip, Recognition
from processor.recognisers.mock import MockRecogniser
from processor.speech import Segmenter
from tests.support.deployment import Deployment, Session, expected, finals_in, held
from tests.support.pcm import SETTINGS, Story, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async


def rolled(story: Story, by: int) -> Story:
    """The same speech, begun somewhere else, so that its texts differ."""
    return Story(np.roll(story.samples, by, axis=0), story.sample_rate_hz)


STORIES = {
    "mono": Story(talk()),
    "telephone": Story(talk(8_000), 8_000),
    "stereo": Story(talk(16_000, 2), finalized=[33_333, 33_333, 70_001]),
    "holes": Story(talk(16_000, 2), holes=[(20_005, 30_007), (100_000, 110_000)], finalized=[30_007]),
    "silent hole": Story(talk(44_100), 44_100, holes=[(50_005, 70_007)], has_hole_events=False),
}


@pytest.mark.parametrize("name", STORIES)
async def test_a_session_becomes_the_facts_of_an_offline_run(deployment: Deployment, name: str) -> None:
    """Facts and their positions are, byte for byte, what segmenter and recogniser make of the samples by themselves."""
    session = await deployment.spoken(STORIES[name])
    await deployment.started()
    await deployment.ended(session)
    assert len(session.expected()) > 5
    assert await session.facts() == session.expected()


async def test_finals_are_those_of_the_bare_segmenter(single: Deployment) -> None:
    """The finals' texts and positions come from the segmenter's utterances, nothing left out or added."""
    session = await single.spoken(Story(talk()))
    await single.started()
    await single.ended(session)
    alone = Segmenter(SETTINGS, 16_000)
    boundaries = [*alone.feed(talk().tobytes()), *alone.close()]
    utterances = [one.utterance for one in boundaries if one.utterance]
    texts = MockRecogniser().recognise([Clip(pcm=one.pcm, sample_rate_hz=16_000) for one in utterances])
    finals = finals_in(await session.facts())
    assert [one.text for one in finals] == [one.text for one in texts]
    assert [(one.start_samples, one.end_samples, one.decided_samples) for one in finals] == [
        (one.start_samples, one.end_samples, one.decided_samples) for one in utterances
    ]


async def test_finals_come_while_the_speaker_still_speaks(deployment: Deployment) -> None:
    """Each utterance's final is there as soon as the audio up to its boundary is, without any audio after it."""
    session = await deployment.open(Story(talk()))
    await deployment.started()
    said = 0
    for number, final in enumerate(finals_in(session.expected()), 1):
        upto = next(at for at, one in enumerate(session.entries) if one.position.offset >= final.decided_samples) + 1
        await session.say(session.entries[said:upto])
        said = upto
        await eventually_async(partial(has_finals, session, number))
    await session.say(session.entries[said:])
    await deployment.ended(session)
    assert await session.facts() == session.expected()


async def has_finals(session: Session, count: int) -> bool:
    """Whether it has so many."""
    return await session.finals() == count


async def test_sessions_never_mix(deployment: Deployment) -> None:
    """Many sessions at once, through shared batches and commits, each get their own facts."""
    sessions = [await deployment.spoken(rolled(Story(talk()), 1_600 * number)) for number in range(12)]
    await deployment.started()
    await deployment.ended(*sessions)
    for session in sessions:
        assert await session.facts() == session.expected()


async def test_a_worker_holds_no_more_than_its_capacity(deployment: Deployment) -> None:
    """Sessions beyond its capacity stay for others, and it takes one more as soon as one has ended."""
    sessions = [await deployment.open(Story(talk())) for _ in range(7)]
    first = await deployment.started(capacity=2)
    await held(first, 2)
    second = await deployment.started(capacity=3)
    await held(second, 3)
    assert len(first.active_runs) == 2
    [run, _] = first.active_runs
    await next(one for one in sessions if one.run.member == run.claim.keys.member).say()
    await eventually_async(lambda: run.claim.keys.member not in first.active_runs)
    await held(first, 2, hurried=True)
    third = await deployment.started()
    await held(third, 1)


class NoiseRecogniser(MockRecogniser):
    """Recognises nothing in every other clip, as Whisper does in noise."""

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Text for clips of an even number of seconds."""
        recognitions = super().recognise(clips)
        return [
            msgspec.structs.replace(one, text="", confidence=0.0) if len(clip.pcm) // 32_000 % 2 else one
            for clip, one in zip(clips, recognitions, strict=True)
        ]


async def test_empty_recognitions_are_no_facts(deployment: Deployment) -> None:
    """Noise without speech makes no final, and utterance numbers count finals only."""
    session = await deployment.spoken(Story(talk()))
    await deployment.started(NoiseRecogniser())
    await deployment.ended(session)
    finals = finals_in(await session.facts())
    texts = [one.text for one in finals_in(session.expected())]
    assert 0 < len(finals) < len(texts)
    assert [one.utterance for one in finals] == list(range(len(finals)))
    assert [one.text for one in finals] == [one for one in texts if one in {final.text for final in finals}]


async def test_a_silent_session_ends_without_finals(deployment: Deployment) -> None:
    """Silence, and a session without any audio, give an end and nothing else (STITCH-6)."""
    silent = await deployment.spoken(Story(np.zeros((50_000, 1), np.int16)))
    empty = await deployment.spoken(Story(np.zeros((0, 1), np.int16)))
    await deployment.started()
    await deployment.ended(silent, empty)
    for session in (silent, empty):
        assert len(facts := await session.facts()) == 2
        assert facts == session.expected()


async def test_audio_behind_the_checkpoint_is_freed(deployment: Deployment) -> None:
    """Audio further behind the checkpoint than the retention is trimmed; the rest stays and gives the same facts."""
    story = Story(np.concatenate([talk()] * 3))
    session = await deployment.open(story)
    await deployment.started(audio_retention_s=2)
    await session.say(session.entries[:-1])
    await eventually_async(lambda: first_offset(deployment, session.keys.audio, at_least=10 * 16_000))
    [first, *_] = await deployment.server.execute("XRANGE", session.keys.audio, "-", "+", "COUNT", 1)
    boundary = msgspec.json.decode((await session.checkpoint())["boundaries"], type=list[int])[0]
    assert Position.parse(first[0]).offset <= boundary - 2 * 16_000 + 1_600
    await session.say(session.entries[-1:])
    await deployment.ended(session)
    assert await session.facts() == session.expected()


async def first_offset(deployment: Deployment, stream: str, at_least: int) -> bool:
    """Whether a stream's first entry lies at an offset or after it."""
    [first, *_] = await deployment.server.execute("XRANGE", stream, "-", "+", "COUNT", 1)
    return Position.parse(first[0]).offset >= at_least


async def test_a_session_ends_while_much_of_it_waits(deployment: Deployment) -> None:
    """A run with more utterances waiting than it may is read no further, and loses nothing by it."""
    recogniser = HeldRecogniser(max_batch=2)
    session = await deployment.spoken(Story(np.concatenate([talk()] * 3)))
    worker = await deployment.started(recogniser, max_pending_utterances=2, max_read_bytes=32_000)
    await held(worker, 1)
    [run] = worker.active_runs
    await eventually_async(lambda: run.waiting_utterances >= 2)
    assert run.timeline.cursor.offset < len(session.story.samples)
    recogniser.gate.set()
    await deployment.ended(session)
    assert await session.facts() == session.expected()


async def test_a_lost_claim_drops_the_run(deployment: Deployment) -> None:
    """When another worker has a run's claim, its holder drops it, and its waiting utterances are not recognised."""
    recogniser = HeldRecogniser(max_batch=1)
    session = await deployment.spoken(Story(talk()))
    worker = await deployment.started(recogniser, lease_ms=300)
    await eventually_async(lambda: recogniser.calls)
    thief = await deployment.claims("thief", lease_ms=30)
    [stolen] = await eventually_async(lambda: thief.take_over(10))
    assert stolen.keys.member == session.run.member
    await held(worker, 0)
    recogniser.gate.set()
    await eventually_async(lambda: not worker._recognition._running)
    assert len(recogniser.calls) == 1
    assert await session.finals() == 0


async def test_an_idle_session_is_ended_by_any_worker(deployment: Deployment) -> None:
    """A session whose edge is gone ends by itself once idle, with all that was said in it (SESS-7)."""
    session = await deployment.open(Story(talk(), sealed=False))
    await session.say()
    await deployment.started(idle_ms=300, sweep_s=0.05)
    await deployment.ended(session)
    *finals, (_, end) = await session.facts()
    fact = decode_fact(end)
    assert isinstance(fact, SessionEnded)
    assert (fact.reason, fact.audio_samples) == ("idle", len(talk()))
    assert finals == expected(Story(talk()), session.keys.session_id)[:-1]


async def test_a_keepalive_counts_as_life(deployment: Deployment) -> None:
    """A session that only keeps itself alive isn't idle (SESS-7)."""
    alive, idle = await deployment.open(Story(talk())), await deployment.open(Story(talk()))
    await deployment.started(idle_ms=400, sweep_s=0.05)

    async def look() -> bool:
        await deployment.log.touch([(alive.keys, 1)])
        return await idle.has_ended()

    await eventually_async(look)
    assert not await alive.has_ended()
    assert await deployment.log.seal(alive.keys, "idle", idle_ms=400) == Code.NOT_IDLE


async def test_a_run_without_entry_is_offered_again(deployment: Deployment) -> None:
    """A session whose entry was lost is found by the sweep and processed."""
    session = await deployment.spoken(Story(talk()))
    entry = (await session.hash(session.keys.partition.entries))[session.run.member]
    assert await deployment.server.execute("XDEL", session.keys.partition.sessions, entry) == 1
    await deployment.started(sweep_s=0.05)
    await deployment.ended(session)
    assert await session.facts() == session.expected()
    assert await session.hash(session.keys.partition.entries) == {}
