"""Requests for an open utterance's text: answered once all before them is committed, without a boundary or a fact."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
import pytest

from eventlog.codec import encode
from eventlog.events import ProvisionalRequested
from eventlog.log import AudioEntry
from eventlog.positions import OPENED, Position
from eventlog.readmodel.feed import FeedKind, ProvisionalAnswer, decode_message
from eventlog.redis.wakeups import Wakeups
from processor.recognisers import Clip, RecogniserError
from processor.recognisers.mock import MockRecogniser
from tests.support.deployment import Deployment, Session, finals_in, held
from tests.support.pcm import Story, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async

Answers = dict[str, list[ProvisionalAnswer]]
Listen = Callable[[Deployment], Awaitable[Answers]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Begins to collect every answer of a deployment, by run."""
    started: list[Wakeups] = []

    async def begin(deployment: Deployment) -> Answers:
        received: Answers = {}

        def on_message(_channel: str, data: bytes) -> None:
            message = decode_message(data)
            if message.kind == FeedKind.ANSWER:
                answer = msgspec.json.decode(message.body, type=ProvisionalAnswer)
                received.setdefault(message.member, []).append(answer)

        channels = [keys.feed_channel for keys in deployment.server.keys.partitions]
        wakeups = Wakeups(await deployment.connect(), channels, on_message, lambda: None)
        await wakeups.start()
        started.append(wakeups)
        return received

    yield begin
    await asyncio.gather(*(wakeups.stop() for wakeups in started))


def asked(session: Session, *places: tuple[int, str]) -> list[AudioEntry]:
    """The session's entries with requests inserted: (after which audio offset, its name), each at a chunk's end."""
    entries = list(session.entries)
    for offset, request in places:
        number = next(number for number, one in enumerate(entries) if one.position.offset > offset)
        at = (entries[number - 1].position if number else OPENED).control()
        entries.insert(number, AudioEntry(at, None, encode(ProvisionalRequested(request=request)), 0))
    return entries


async def test_a_request_is_answered_with_the_open_utterance(deployment: Deployment, listen: Listen) -> None:
    """The answer counts the finals before it and has the open utterance's text so far (LIVE-1)."""
    received = await listen(deployment)
    session = await deployment.open(Story(talk()))
    recogniser = HeldRecogniser(is_open=True)
    await deployment.started(recogniser, partials_per_s=0)
    finals = finals_in(session.expected())
    amid = (finals[2].start_samples + 12_000) // 1_600 * 1_600
    entries = asked(session, (amid, "what now?"))
    question = next(number for number, one in enumerate(entries) if one.event)
    await session.say(entries[:question])
    await eventually_async(lambda: _has(session, 2))
    recogniser.gate.clear()
    await session.say(entries[question : question + 1])
    await eventually_async(lambda: recogniser.calls[-1][0].partial)
    assert received == {}, "the open utterance is still being recognised"
    recogniser.gate.set()
    [answer] = await eventually_async(lambda: received.get(session.run.member, []))
    assert (answer.request, answer.utterances) == ("what now?", 2)
    [opened] = answer.provisional
    pcm = session.story.samples[finals[2].start_samples : amid].tobytes()
    [recognition] = MockRecogniser().recognise([Clip(pcm=pcm, sample_rate_hz=16_000, partial=True)])
    assert (opened.utterance, opened.channel, opened.speaker) == (2, 0, "1")
    assert opened.start == round(finals[2].start_samples / 16_000, 3)
    assert opened.start < opened.end <= amid / 16_000
    assert opened.text
    assert len(recognition.text) > 0
    await session.say(entries[question + 1 :])
    await deployment.ended(session)
    assert await session.facts() == session.expected(), "a question takes no boundary and leaves no fact"


async def _has(session: Session, finals: int) -> bool:
    return await session.finals() == finals


async def test_every_request_is_answered(deployment: Deployment, listen: Listen) -> None:
    """In silence, twice at one place and before any audio each request gets an answer, in order."""
    received = await listen(deployment)
    session = await deployment.open(Story(talk(16_000, 2)))
    entries = asked(session, (0, "first"), (50_000, "twice"), (50_000, "and again"), (140_000, "last"))
    await session.say(entries)
    await deployment.started()
    await deployment.ended(session)
    await eventually_async(lambda: len(received.get(session.run.member, [])) >= 4)
    answers = received[session.run.member]
    assert [one.request for one in answers] == ["first", "twice", "and again", "last"]
    assert answers[0].provisional == []
    assert answers[1].provisional == answers[2].provisional
    counts = [one.utterances for one in answers]
    assert counts == sorted(counts)
    assert await session.facts() == session.expected()


async def test_an_answer_waits_for_the_finals_before_it(single: Deployment, listen: Listen) -> None:
    """Nothing is answered while an utterance before the request is still being recognised."""
    received = await listen(single)
    recogniser = HeldRecogniser(max_batch=1)
    session = await single.open(Story(talk()))
    entries = asked(session, (60_000, "now?"))
    await session.say(entries[: next(number for number, one in enumerate(entries) if one.event) + 1])
    worker = await single.started(recogniser)
    await held(worker, 1)
    [run] = worker.active_runs
    await eventually_async(lambda: any(item.decision.request for item in run.pending))
    assert received == {}
    recogniser.gate.set()
    [answer] = await eventually_async(lambda: received.get(session.run.member, []))
    assert answer.utterances == await session.finals() > 0


async def test_a_request_is_answered_although_the_engine_fails(single: Deployment, listen: Listen) -> None:
    """Where the open utterance can't be recognised the answer goes without it, and holds nothing up."""

    def refuse(clips: Sequence[Clip]) -> None:
        if any(clip.partial for clip in clips):
            raise RecogniserError("no partials here", retryable=False)

    received = await listen(single)
    recogniser = HeldRecogniser(is_open=True)
    recogniser.fail = refuse
    session = await single.open(Story(talk()))
    await session.say(asked(session, (finals_in(session.expected())[2].start_samples + 12_000, "now?")))
    await single.started(recogniser, partials_per_s=0)
    [answer] = await eventually_async(lambda: received.get(session.run.member, []))
    assert (answer.utterances, answer.provisional) == (2, [])
    await single.ended(session)
    assert await session.facts() == session.expected()


async def test_a_request_is_taken_once(deployment: Deployment) -> None:
    """A request before the checkpoint isn't a decision again when its audio is read again."""
    session = await deployment.open(Story(talk()))
    entries = asked(session, (16_000, "early"))
    await session.say(entries)
    worker = await deployment.started()
    await deployment.ended(session)
    assert Position(16_000, 1) in [one.position for one in entries]
    assert await session.facts() == session.expected()
    assert len(worker.active_runs) == 0
