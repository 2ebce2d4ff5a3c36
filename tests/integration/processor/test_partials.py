"""Partials: provisional texts of open utterances on the feed channel."""

import msgspec
import pytest

from eventlog.readmodel.feed import FeedKind, FeedMessage, decode_message
from eventlog.redis.wakeups import Wakeups
from processor import arrival_pace
from processor.recognisers import Clip
from processor.recognisers.mock import MockRecogniser
from tests.support.deployment import Deployment, Session, finals_in, held
from tests.support.pcm import Story, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async


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
        await deployment.started(partial_interval_ms=10)
        second = finals_in(session.expected())[1]
        upto = next(at for at, one in enumerate(session.entries) if one.position.offset >= second.end_samples - 6_000)
        await session.say(session.entries[:upto])
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
