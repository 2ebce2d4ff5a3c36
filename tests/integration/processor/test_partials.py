"""Partials: provisional texts of open utterances on the feed channel."""

from collections.abc import Sequence

import msgspec
import pytest

from eventlog.readmodel.feed import FeedKind, FeedMessage, decode_message
from eventlog.redis.wakeups import Wakeups
from processor import arrival_pace
from processor.recognisers import Clip, Recognition
from processor.recognisers.mock import MockRecogniser
from processor.speech import SegmenterSettings
from tests.support.deployment import Deployment, Session, finals_in, held
from tests.support.pcm import Story, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async, lasting


class Listener:
    """Listens to a session's partition, as an edge does."""

    def __init__(self, deployment: Deployment, session: Session) -> None:
        """Bind to the session's channel."""
        self.messages: list[FeedMessage] = []
        channel = session.run.partition.feed_channel
        self.wakeups = Wakeups(
            deployment.server, [channel], lambda _, data: self.messages.append(decode_message(data)), lambda: None
        )

    async def start(self) -> None:
        """Return when the subscription stands."""
        await self.wakeups.start()
        await self.wakeups.listening()


async def test_an_open_utterance_has_partials(deployment: Deployment) -> None:
    """A partial carries the words so far, where they stand in the audio, and the position of the last fact."""
    session = await deployment.open(Story(talk(16_000, 2)))
    listener = Listener(deployment, session)
    await listener.start()
    try:
        await deployment.started(partial_interval_ms=10)
        final = finals_in(session.expected())[0]
        upto = next(at for at, one in enumerate(session.entries) if one.position.offset >= final.end_samples - 16_000)
        recognised_samples = session.entries[upto - 1].position.offset
        await session.say(session.entries[:upto])
        await eventually_async(lambda: listener.messages)
    finally:
        await listener.wakeups.stop()
    message = listener.messages[-1]
    assert (message.kind, message.member, message.position) == (FeedKind.PARTIAL, session.run.member, "0-1")
    body = msgspec.json.decode(message.body)
    assert (body["type"], body["utterance"], body["channel"]) == ("partial", 0, 0)
    assert body["start"] == round(final.start_samples / 16_000, 3)
    assert body["end"] == round(recognised_samples / 16_000, 3)
    pcm = session.story.samples[final.start_samples : recognised_samples, 0].tobytes()
    [expected] = MockRecogniser().recognise([Clip(pcm=pcm, sample_rate_hz=16_000)])
    assert body["text"] == expected.text


async def test_partials_name_the_last_fact(deployment: Deployment) -> None:
    """A partial after a final carries that final's position, so that a listener can drop older ones."""
    session = await deployment.open(Story(talk()))
    listener = Listener(deployment, session)
    await listener.start()
    try:
        worker = await deployment.started(partial_interval_ms=10)
        first, second = finals_in(session.expected())[:2]
        decided, upto = (
            next(number for number, one in enumerate(session.entries) if one.position.offset >= at)
            for at in (first.decided_samples, second.end_samples - 6_000)
        )
        await session.say(session.entries[: decided + 1])
        await eventually_async(session.finals)
        await eventually_async(lambda: any(run.last_fact.offset for run in worker.active_runs))
        await session.say(session.entries[decided + 1 : upto])
        await eventually_async(lambda: any(one.position == "1-0" for one in listener.messages))
    finally:
        await listener.wakeups.stop()
    last = next(one for one in listener.messages if one.position == "1-0")
    assert msgspec.json.decode(last.body)["utterance"] == 1


async def test_partials_are_no_facts(deployment: Deployment) -> None:
    """The log has finals only, those of a run without partials."""
    session = await deployment.open(Story(talk()))
    await deployment.started(partial_interval_ms=1)
    for first in range(0, len(session.entries), 7):
        await session.say(session.entries[first : first + 7])
    await deployment.ended(session)
    assert await session.facts() == session.expected()


async def test_partials_wait_while_finals_do(single: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the recogniser is busy with finals, no partial is requested."""
    monkeypatch.setattr(arrival_pace, "BEHIND_S", float("inf"))  # the story comes in at once, as if it were live
    recogniser = HeldRecogniser(max_batch=1)
    session = await single.open(Story(talk()))
    worker = await single.started(recogniser, partial_interval_ms=1, max_pending_utterances=100)
    await held(worker, 1)
    [run] = worker.active_runs
    await session.say(session.entries[:60])
    await eventually_async(lambda: run.waiting_utterances > 1)
    await session.say(session.entries[60:-1])
    await eventually_async(lambda: run.timeline.cursor == session.entries[-2].position)
    assert worker._recognition.room_for_partials == 0
    assert sum(clip.partial for call in recogniser.calls for clip in call) <= 1
    recogniser.gate.set()
    await session.say(session.entries[-1:])
    await single.ended(session)


async def test_a_rate_of_zero_disables_partials(deployment: Deployment) -> None:
    """With a rate of zero an open utterance is never recognised provisionally."""
    session = await deployment.open(Story(talk(16_000, 2)))
    recogniser = HeldRecogniser(is_open=True)
    worker = await deployment.started(recogniser, partial_interval_ms=10, partials_per_s=0)
    await session.say(session.entries[:20])
    await eventually_async(lambda: [one for one in worker.active_runs if one.timeline.open_utterances()])
    worker._partials._look()
    assert not any(clip.partial for call in recogniser.calls for clip in call)


def partial_clips(recogniser: HeldRecogniser) -> list[Clip]:
    """The clips that were recognised for partials."""
    return [clip for call in recogniser.calls for clip in call if clip.partial]


def amid_speech(session: Session) -> int:
    """How many entries end amid the first utterance, a second before its end."""
    end = finals_in(session.expected())[0].end_samples - 16_000
    return next(at for at, one in enumerate(session.entries) if one.position.offset >= end)


async def test_nothing_is_recognised_again_without_news(single: Deployment) -> None:
    """An open utterance of which no more comes is recognised once, however long it stays open (WORD-5)."""
    recogniser = HeldRecogniser(is_open=True)
    session = await single.open(Story(talk(16_000, 1)))
    worker = await single.started(recogniser, partial_interval_ms=10)
    await session.say(session.entries[: amid_speech(session)])
    await eventually_async(lambda: partial_clips(recogniser))
    await lasting(0.5)
    assert len(partial_clips(recogniser)) == 1
    assert worker.active_runs.has_live


async def test_a_session_has_its_own_interval(single: Deployment) -> None:
    """A session's own interval between partials overrides the worker's."""
    recogniser = HeldRecogniser(is_open=True)
    session = await single.open(Story(talk(16_000, 1)), partial_interval_ms=60_000)
    await single.started(recogniser, partial_interval_ms=10)
    upto = amid_speech(session)
    await session.say(session.entries[: upto - 2])
    await eventually_async(lambda: partial_clips(recogniser))
    await session.say(session.entries[upto - 2 : upto])
    await lasting(0.5)
    assert len(partial_clips(recogniser)) == 1


async def test_partials_say_how_much_of_them_is_stable(single: Deployment) -> None:
    """Of each partial the first characters, whole words, are the begin of every later one of its utterance (WORD-4)."""

    class Growing(HeldRecogniser):
        """Reads a word per half second, and doubts the last one."""

        def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
            super().recognise(clips)
            counts = [len(clip.pcm) // 16_000 for clip in clips]
            return [
                Recognition(text=" ".join(["word"] * (count - 1) + [f"doubted{count}"]), confidence=1.0)
                for count in counts
            ]

    session = await single.open(Story(talk(16_000, 1), segmenter=msgspec.to_builtins(SegmenterSettings())))
    listener = Listener(single, session)
    await listener.start()
    try:
        await single.started(Growing(is_open=True), partial_interval_ms=10, early_final_ms=0)
        for first in range(0, 40, 4):
            await session.say(session.entries[first : first + 4])
            await lasting(0.1)
        await eventually_async(lambda: len(listener.messages) > 3)
    finally:
        await listener.wakeups.stop()
    bodies = [msgspec.json.decode(one.body) for one in listener.messages]
    assert bodies[0]["stable"] == 0
    assert bodies[-1]["stable"] > 0
    stable = ""
    for body in bodies:
        assert body["text"].startswith(stable)
        assert body["stable"] >= len(stable)
        stable = body["text"][: body["stable"]]


async def test_partials_of_sessions_share_a_call(single: Deployment) -> None:
    """Open utterances of several sessions that are due about together are recognised by one call."""
    recogniser = HeldRecogniser(max_batch=16, is_open=True)
    sessions = [await single.open(Story(talk(16_000, 1))) for _ in range(4)]
    worker = await single.started(recogniser, partial_interval_ms=60_000)
    await held(worker, 4)
    for session in sessions:
        await session.say(session.entries[: amid_speech(session)])
    await eventually_async(lambda: len(partial_clips(recogniser)) == 4)
    assert len(recogniser.calls) <= 2
