"""A deployment to test workers in: sessions that speak, workers that live and die, and what must come of it."""

import uuid
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

import msgspec

from eventlog.codec import decode_fact, encode
from eventlog.events import Fact, HoleNoted, ProgressNoted, SessionEnded, SessionOpened, UtteranceFinal, Word
from eventlog.keys import RunKeys, SessionKeys
from eventlog.log import Append, AudioEntry, Checkpoint, Claim, Code
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server, connect
from eventlog.work.claims import Claims
from processor.quarantine import QuarantineTrial
from processor.recognisers import Clip, Recogniser
from processor.recognisers.mock import MockRecogniser
from processor.settings import WorkerSettings
from processor.timeline import Timeline
from processor.worker import Worker
from tests.support.pcm import Story
from tests.support.waiting import eventually_async

# Few, so that a look at all of them costs little; several, so that a cluster's nodes all have some.
PARTITIONS = 8
FRAME_SAMPLES = 1_600
Facts = list[tuple[Position, bytes]]


class Session:
    """One speaker's session, as its edge writes it."""

    def __init__(self, log: RedisLog, keys: SessionKeys, story: Story) -> None:
        """Bind to an open session."""
        self.keys = keys
        self.run: RunKeys = keys.run()
        self.story = story
        self.entries = story.entries(range(0, len(story.samples), FRAME_SAMPLES))[1:]
        self._log = log
        self._head = OPENED

    async def say(self, entries: Iterable[AudioEntry] | None = None) -> None:
        """Append entries, all that the story has if none are given."""
        appends = []
        for entry in self.entries if entries is None else entries:
            payload = entry.event if entry.pcm is None else entry.pcm
            assert payload is not None
            appends.append(Append(self.keys, 1, self._head, entry.position, payload, entry.pcm is not None))
            self._head = entry.position
        assert {one.code for one in await self._log.append(appends)} <= {Code.OK}

    async def facts(self) -> Facts:
        """Its facts so far, the wall clock left out of them."""
        return [(at, timeless(decode_fact(fact))) for at, fact in await self._log.facts(self.run, START)]

    async def has_ended(self) -> bool:
        """Whether its last fact is its end."""
        last = await self._log.server.execute("XREVRANGE", self.run.transcript, "+", "-", "COUNT", 1)
        return bool(last) and Position.parse(last[0][0]) == SEALED

    async def finals(self) -> int:
        """How many finals it has so far."""
        return sum(at.offset > 0 and at.sequence == 0 for at, _ in await self.facts())

    async def checkpoint(self) -> dict[str, str]:
        """Its stored checkpoint."""
        return await self.hash(self.run.checkpoint)

    async def hash(self, key: str) -> dict[str, str]:
        """A Redis hash, as text."""
        parts = await self._log.server.execute("HGETALL", key)
        items = parts.items() if isinstance(parts, dict) else zip(parts[::2], parts[1::2], strict=True)
        return {name.decode(): value.decode() for name, value in items}

    def expected(self) -> Facts:
        """What an undisturbed run of segmenter and mock recogniser states, worked out without any server."""
        return expected(self.story, self.keys.session_id)


class Deployment:
    """One log, and its workers."""

    def __init__(self, url: str) -> None:
        """Use the empty Redis at `url`."""
        self.url = url
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect."""
        self.server = await self.connect()
        self.log = RedisLog(self.server, session_ttl_s=1_000)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop every worker and close every connection."""
        await self._stack.aclose()

    async def connect(self) -> Server:
        """A connection of one's own, as another process has."""
        server = await connect(self.url, partitions=PARTITIONS)
        self._stack.push_async_callback(server.close)
        return server

    async def open(self, story: Story, **options: Any) -> Session:  # noqa: ANN401
        """A new session, its start event with these fields."""
        keys = self.server.keys.of(str(uuid.uuid4()))
        start = msgspec.structs.replace(story.start, session_id=keys.session_id, **options)
        assert (await self.log.open(keys, start, "token")).code == Code.OK
        return Session(self.log, keys, story)

    async def spoken(self, story: Story) -> Session:
        """A session whose whole story is in the log."""
        session = await self.open(story)
        await session.say()
        return session

    async def worker(
        self,
        recogniser: Recogniser | None = None,
        *,
        trial: QuarantineTrial | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> Worker:
        """A worker that isn't started; it is stopped at the end if need be."""
        worker = Worker(
            await self.connect(),
            WorkerSettings(**{"tick_ms": 5, "session_ttl_s": 1_000, **settings}),
            recogniser or MockRecogniser(),
            trial=trial or never_tried,
        )
        self._stack.push_async_callback(worker.stop)
        if recogniser:
            self._stack.callback(recogniser.close)
        return worker

    async def started(self, recogniser: Recogniser | None = None, **settings: Any) -> Worker:  # noqa: ANN401
        """A running worker."""
        worker = await self.worker(recogniser, **settings)
        await worker.start()
        return worker

    async def claims(self, consumer: str, lease_ms: int) -> Claims:
        """Claims of another consumer."""
        return Claims(await self.connect(), consumer, lease_ms=lease_ms, session_ttl_s=1_000)

    async def ended(self, *sessions: Session, hurried: Worker | None = None) -> None:
        """Return when all these sessions have ended; a worker that is `hurried` looks for claims all the time."""

        async def look() -> bool:
            if hurried:
                hurried._keeper.wake()
            return all([await session.has_ended() for session in sessions])

        await eventually_async(look, message="the sessions' ends are among the facts")


async def never_tried(claim: Claim) -> bool:
    """A trial that must not happen."""
    raise AssertionError(f"{claim.keys.member} got a trial")


async def abandon(worker: Worker) -> None:
    """End a worker's work where it stands, as its death would: nothing is handed over, answers are lost."""
    if taking := worker._keeper._taking:
        taking.cancel()
    await worker._tasks.stop()
    await worker._wakeups.stop()
    worker._recognition.close()
    for run in worker.active_runs:
        worker.active_runs.remove(run)


async def held(worker: Worker, count: int, *, hurried: bool = False) -> None:
    """Return when a worker holds `count` runs."""

    def look() -> bool:
        if hurried:
            worker._keeper.wake()
        return len(worker.active_runs) == count

    await eventually_async(look, message=f"{worker.consumer} holds {count} runs")


def expected(story: Story, session_id: str) -> Facts:
    """What an undisturbed run of segmenter and mock recogniser states of `story`."""
    start = msgspec.structs.replace(story.start, session_id=session_id)
    timeline = Timeline(start, Checkpoint())
    decisions = [one for entry in story.entries() for one in timeline.feed(entry)]
    opened = SessionOpened(
        session_id=session_id, run="live", sample_rate_hz=start.sample_rate_hz, channels=start.channels
    )
    found: list[tuple[Position, Fact]] = [(OPENED, opened)]
    count, rate_hz, passed = 0, start.sample_rate_hz, 0
    for decision in decisions:
        stated = len(found)
        if spoken := decision.utterance:
            [recognition] = MockRecogniser().recognise([Clip(pcm=spoken.pcm, sample_rate_hz=rate_hz)])
            final = UtteranceFinal(
                utterance=count,
                channel=decision.channel,
                start_samples=spoken.start_samples,
                end_samples=spoken.end_samples,
                decided_samples=spoken.decided_samples,
                sample_rate_hz=rate_hz,
                text=recognition.text,
                confidence=1.0,
                speaker=str(decision.channel + 1),
                words=tuple(
                    Word(
                        word.text, spoken.start_samples + round(word.start_s * rate_hz),
                        spoken.start_samples + round(word.end_s * rate_hz), 1.0,
                    )
                    for word in recognition.words
                ),
                language=start.language, model="mock", decodes=1,
            )  # fmt: skip
            count += 1
            found.append((Position(count, 0), final))
        if decision.hole:
            start_samples, end_samples = decision.hole
            hole = HoleNoted(start_samples=start_samples, end_samples=end_samples, sample_rate_hz=rate_hz)
            found.append((found[-1][0].control(), hole))
        if decision.sealed:
            end = SessionEnded(
                reason=decision.sealed.reason,
                audio_samples=decision.sealed.offset_samples,
                utterances=count,
                sample_rate_hz=rate_hz,
            )
            found.append((SEALED, end))
        before, passed = passed, min(decision.boundaries) // (5 * rate_hz)
        if passed > before and len(found) == stated:
            progress = ProgressNoted(
                processed_samples=min(decision.boundaries), total_samples=0, sample_rate_hz=rate_hz
            )
            found.append((found[-1][0].control(), progress))
    return [(at, encode(fact)) for at, fact in found]


def timeless(fact: Fact) -> bytes:
    """The fact's bytes without the wall clock's part."""
    for name in ("opened_ms", "committed_ms", "ended_ms", "noted_ms"):
        if name in fact.__struct_fields__:
            fact = msgspec.structs.replace(fact, **{name: 0})
    return encode(fact)


def finals_in(facts: Sequence[tuple[Position, bytes]]) -> list[UtteranceFinal]:
    """The finals among some facts."""
    return [fact for _, data in facts if isinstance(fact := decode_fact(data), UtteranceFinal)]
