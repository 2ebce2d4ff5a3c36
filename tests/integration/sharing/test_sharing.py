"""Workers that share the recognition of recordings."""

import random
from collections.abc import Sequence
from functools import partial

import pytest

from eventlog.log import LogUnavailableError
from eventlog.work import shared_recognition as log_side
from eventlog.work.erasure import erase
from eventlog.work.shared_recognition import SharedRecognition, Taken
from processor.recognisers import Clip, RecogniserError, Recognition
from processor.sharing import offerer
from processor.sharing import sharer as role
from processor.sharing import taker as taking
from processor.worker import Worker
from tests.integration.sharing.recordings import is_as_undisturbed, left, live, looking, offered, recording, sharing
from tests.support.deployment import Deployment, Session, abandon, expected, finals_in, held
from tests.support.metric_samples import of, samples
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually_async

LEASE_MS = 250
LONG_MS = 60_000
WAIT_S = 30.0


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make checks of each second run all the time."""
    monkeypatch.setattr(role, "ROUND_S", 0.005)
    monkeypatch.setattr(role, "RETRY_S", 0.02)
    monkeypatch.setattr(taking, "ASK_S", 0.02)
    monkeypatch.setattr(offerer, "ASK_S", 0.02)
    monkeypatch.setattr(offerer, "CHECK_S", 0.02)


def counted(worker: Worker, name: str) -> float:
    """One of a worker's counters of utterances."""
    found = samples(worker._server.meter.exposition("")[0].decode())
    return of(found, f"stenolog_worker_shared_utterances_{name}_total")


def given(recogniser: HeldRecogniser) -> int:
    """How many clips a recogniser was given."""
    return sum(map(len, recogniser.calls))


def one_by_one(*, is_open: bool = False) -> HeldRecogniser:
    """A recogniser of one clip at a time, so that a worker keeps two: one in it, one before it."""
    return HeldRecogniser(max_batch=1, is_open=is_open)


async def ended(*sessions: Session) -> None:
    """Return when all have ended."""

    async def look() -> bool:
        return all([await session.has_ended() for session in sessions])

    await eventually_async(look, WAIT_S, "the recordings have ended")


async def taker(deployment: Deployment, recogniser: HeldRecogniser, **settings: int) -> Worker:
    """A running worker that recognises for others and holds nothing itself."""
    worker = await deployment.started(recogniser, capacity=0, **settings)
    await looking(worker)
    return worker


async def test_others_recognise_what_the_holder_has_no_time_for(deployment: Deployment) -> None:
    """While its holder is stuck at one utterance, an idle worker recognises the others, to the same finals."""
    slow, quick = one_by_one(), one_by_one(is_open=True)
    other = await taker(deployment, quick)
    holder = await deployment.started(slow)
    session = await deployment.spoken(recording())
    count = len(finals_in(session.expected()))
    assert count > 20
    await eventually_async(lambda: given(quick) == count - 2, WAIT_S)
    assert given(slow) == 1
    assert await session.finals() == 0, "nothing is committed before what precedes it"
    slow.gate.set()
    await ended(session)
    await is_as_undisturbed(session)
    assert given(slow) == 2
    for worker, name in ((holder, "offered"), (other, "taken"), (other, "recognised")):
        assert counted(worker, name) == count - 2
    assert await left(holder) == 0

    async def is_forgotten() -> bool:
        return not await deployment.server.execute("EXISTS", session.run.recognised)

    await eventually_async(is_forgotten, message="no result outlives its run")


async def test_several_channels_are_shared(single: Deployment) -> None:
    """A taker has each channel's own samples, and finals stay in order of position, then channel."""
    slow, quick = one_by_one(), one_by_one(is_open=True)
    await taker(single, quick)
    await single.started(slow)
    session = await single.spoken(recording(2, channels=2))
    await eventually_async(lambda: given(quick) > 10, WAIT_S)
    slow.gate.set()
    await ended(session)
    await is_as_undisturbed(session)


async def test_a_worker_alone_shares_nothing(deployment: Deployment) -> None:
    """Without another worker that has time, no utterance goes through Redis."""
    recogniser = one_by_one()
    worker = await deployment.started(recogniser)
    session = await deployment.spoken(recording())
    await eventually_async(lambda: len(sharing(worker)._offerer._queue.recorded) > 20, WAIT_S)
    await looking(worker)
    assert offered(worker) == 0
    recogniser.gate.set()
    await ended(session)
    await is_as_undisturbed(session)
    assert counted(worker, "offered") == 0
    assert await left(worker) == 0


async def test_live_sessions_are_not_shared(single: Deployment) -> None:
    """A live session's utterances stay with its holder, however many wait."""
    slow, quick = one_by_one(), one_by_one(is_open=True)
    await taker(single, quick)
    worker = await single.started(slow)
    session = await single.spoken(live(4))
    await eventually_async(lambda: worker._recognition.waiting >= 7, WAIT_S)
    slow.gate.set()
    await ended(session)
    assert await session.facts() == session.expected()
    assert given(quick) == 0


@pytest.mark.parametrize("settings", [{"shared_recognition": False}, {"engine": "other"}])
async def test_who_does_not_share_neither_offers_nor_takes(single: Deployment, settings: dict[str, bool | str]) -> None:
    """With sharing off, or another engine, a worker leaves others' utterances alone and keeps its own."""
    slow, quick = one_by_one(), one_by_one(is_open=True)
    session = await single.spoken(recording())
    worker = await single.started(slow)
    await single.started(quick, capacity=0, **settings)
    second = await single.started(one_by_one(is_open=True), capacity=0, shared_recognition=False)
    await eventually_async(lambda: len(worker._recognition.recorded) > 20, WAIT_S)
    assert second._sharer is None
    slow.gate.set()
    await ended(session)
    await is_as_undisturbed(session)
    assert (given(quick), counted(worker, "offered")) == (0, 0)


async def test_without_sharing_a_recording_is_read_no_further_ahead(single: Deployment) -> None:
    """With sharing off as few utterances wait as of a live session; with it, as many as all recordings may have."""
    alone, ahead = one_by_one(), one_by_one()
    sessions = [await single.spoken(recording()) for _ in range(3)]
    bounds = {"max_pending_utterances": 3, "max_read_bytes": 8_192}
    first = await single.started(alone, shared_recognition=False, capacity=1, **bounds)
    await held(first, 1)
    second = await single.started(ahead, max_shared_utterances=20, capacity=2, **bounds)
    await held(second, 2)

    def waiting(worker: Worker) -> list[int]:
        return [run.waiting_utterances for run in worker.active_runs]

    await eventually_async(lambda: waiting(first) == [3], WAIT_S)
    # The one that was past its own share first took the rest.
    await eventually_async(lambda: 20 <= sum(waiting(second)) <= 20 + 2 * 3, WAIT_S)
    assert min(waiting(second)) >= 3
    alone.gate.set()
    ahead.gate.set()
    await ended(*sessions)
    for session in sessions:
        await is_as_undisturbed(session)


async def test_a_dead_takers_utterances_are_recognised_by_another(deployment: Deployment) -> None:
    """What a taker died over, another takes after the lease, and no final is missing or doubled (SAFE-1)."""
    slow, stuck, quick = one_by_one(), one_by_one(), one_by_one(is_open=True)
    doomed = await taker(deployment, stuck, shared_recognition_lease_ms=LEASE_MS)
    await deployment.started(slow, shared_recognition_lease_ms=LEASE_MS)
    session = await deployment.spoken(recording())
    await eventually_async(lambda: given(stuck), WAIT_S)
    await abandon(doomed)
    count = len(finals_in(session.expected()))
    await taker(deployment, quick, shared_recognition_lease_ms=LEASE_MS)
    await eventually_async(lambda: given(quick) >= count - 2, WAIT_S)
    slow.gate.set()
    await ended(session)
    await is_as_undisturbed(session)


class Choking(HeldRecogniser):
    """Gets stuck over one utterance, and recognises the others at once."""

    def __init__(self, pcm: bytes) -> None:
        """Choke over the one with these samples."""
        super().__init__(max_batch=1, is_open=True)
        self.is_choking = False
        self._pcm = pcm

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Wait for the gate only over what it chokes on."""
        if any(clip.pcm == self._pcm for clip in clips):
            self.is_choking = True
            self.gate.clear()
        return super().recognise(clips)


async def test_what_kills_its_takers_comes_back_to_its_holder(single: Deployment) -> None:
    """After two takers died over it, an utterance is taken by no other, and its holder recognises it (SAFE-3)."""
    story = recording()
    deadly = finals_in(expected(story, ""))[9]
    pcm = story.samples[deadly.start_samples : deadly.end_samples].tobytes()
    slow = one_by_one()
    holder = await single.started(slow, shared_recognition_lease_ms=LEASE_MS)
    first, second, third = Choking(pcm), Choking(pcm), Choking(pcm)
    doomed = await taker(single, first, shared_recognition_lease_ms=LEASE_MS)
    session = await single.spoken(story)
    for recogniser in (first, second):
        await eventually_async(partial(getattr, recogniser, "is_choking"), WAIT_S)
        await abandon(doomed)
        doomed = await taker(single, third if recogniser is second else second, shared_recognition_lease_ms=LEASE_MS)
    await eventually_async(lambda: pcm in {job.clip.pcm for job in holder._recognition.recorded}, WAIT_S)
    slow.gate.set()
    await ended(session)
    await is_as_undisturbed(session)
    assert not third.is_choking
    assert pcm in {clip.pcm for call in slow.calls for clip in call}


async def test_what_a_taker_cannot_recognise_its_holder_judges(single: Deployment) -> None:
    """A taker's error quarantines no session: the holder tries for itself, and succeeds."""
    slow, broken = one_by_one(), one_by_one(is_open=True)

    def fail(_: Sequence[Clip]) -> None:
        raise RecogniserError("no", retryable=False)

    broken.fail = fail
    await taker(single, broken)
    await single.started(slow)
    session = await single.spoken(recording(2))
    await eventually_async(lambda: given(broken) > 3, WAIT_S)
    slow.gate.set()
    await ended(session)
    await is_as_undisturbed(session)


async def test_a_dead_holders_successor_finds_what_was_recognised(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its holder's death the next one uses the results that are there, and recognises the rest (SAFE-1)."""
    stuck, quick, last = one_by_one(), one_by_one(is_open=True), one_by_one()
    other = await taker(deployment, quick)
    holder = await deployment.started(stuck, lease_ms=LEASE_MS)
    session = await deployment.spoken(recording())
    count = len(finals_in(session.expected()))
    await eventually_async(lambda: counted(holder, "offered") == count - 2, WAIT_S)
    await eventually_async(lambda: offered(holder) == 0, WAIT_S)
    await abandon(other)
    await abandon(holder)
    monkeypatch.setattr(log_side, "SILENT_MS", -1_000)  # no worker is left to be offered anything
    successor = await deployment.started(last, lease_ms=LEASE_MS)
    await held(successor, 1, hurried=True)
    [run] = successor.active_runs
    await eventually_async(lambda: sum(one.recognition is not None for one in run.pending) == count - 2, WAIT_S)
    last.gate.set()
    await ended(session)
    await is_as_undisturbed(session)
    assert given(last) == 2
    assert given(quick) == count - 2


async def test_a_stopped_worker_gives_back_what_it_took_and_offered(single: Deployment) -> None:
    """A graceful stop of taker or holder makes no worker wait for a lease (SESS-8)."""
    first, second, quick = one_by_one(), one_by_one(), one_by_one(is_open=True)
    leaving = await taker(single, first, shared_recognition_lease_ms=LONG_MS)
    holder = await single.started(second, shared_recognition_lease_ms=LONG_MS)
    session = await single.spoken(recording())
    await eventually_async(lambda: given(first), WAIT_S)
    count = len(finals_in(session.expected()))
    staying = await taker(single, quick, shared_recognition_lease_ms=LONG_MS)
    await leaving.stop()
    await eventually_async(lambda: given(quick) == count - 2, WAIT_S)
    await holder.stop()
    assert await left(staying) == 0
    await single.started(one_by_one(is_open=True), shared_recognition_lease_ms=LONG_MS)
    await ended(session)
    await is_as_undisturbed(session)


async def test_a_busy_taker_lets_others_have_what_it_does_not_come_to(single: Deployment) -> None:
    """What waits behind a taker's own live finals for a lease goes to another."""
    slow, busy, quick = one_by_one(), one_by_one(), one_by_one(is_open=True)
    talking = await single.open(live(4))
    crowded = await single.started(busy, capacity=1, shared_recognition_lease_ms=LEASE_MS)
    await held(crowded, 1)
    await looking(crowded)
    holder = await single.started(slow, shared_recognition_lease_ms=LEASE_MS)
    session = await single.spoken(recording())
    await eventually_async(lambda: counted(crowded, "taken") >= 2, WAIT_S)
    await talking.say()
    count = len(finals_in(session.expected()))
    await taker(single, quick, shared_recognition_lease_ms=LEASE_MS)
    await eventually_async(lambda: given(quick) >= count - 3, WAIT_S)
    assert given(busy) == 1
    await eventually_async(lambda: offered(holder) <= 1, WAIT_S)
    busy.gate.set()
    slow.gate.set()
    await ended(session, talking)
    await is_as_undisturbed(session)


async def test_an_erased_recordings_utterances_are_dropped(deployment: Deployment) -> None:
    """After a deletion nothing is recognised for it any more, and nothing of it is left (STITCH-5)."""
    slow, quick = one_by_one(), one_by_one()
    other = await taker(deployment, quick)
    await deployment.started(slow, lease_ms=LEASE_MS)
    session = await deployment.spoken(recording())
    await eventually_async(lambda: given(quick), WAIT_S)
    assert await erase(deployment.server, session.keys, "")
    quick.gate.set()

    async def is_empty() -> bool:
        return await left(other) == 0

    await eventually_async(is_empty, WAIT_S)
    assert given(quick) <= 3, "what it had in hand"
    assert await deployment.server.execute("EXISTS", session.run.recognised) == 0


class Lossy(SharedRecognition):
    """Dealings of which about every third gets no answer, some after they were done."""

    chance = random.Random(4)

    async def take(self, room: int) -> list[Taken]:
        """Take, and lose some answers."""
        taken = await super().take(room)
        self._lose()
        return taken

    async def remove(self, entry_ids: Sequence[str]) -> None:
        """Lose some calls."""
        if entry_ids:
            self._lose()
        await super().remove(entry_ids)

    async def find_removed(self, entry_ids: Sequence[str]) -> list[str]:
        """Lose some answers."""
        self._lose()
        return await super().find_removed(entry_ids)

    def _lose(self) -> None:
        if self.chance.randrange(3) == 0:
            raise LogUnavailableError("no answer")


async def test_lost_answers_cost_time_only(single: Deployment) -> None:
    """Whichever calls get no answer, every utterance is recognised in the end, and each final is there once."""
    slow, quick = one_by_one(is_open=True), one_by_one(is_open=True)
    other = await taker(single, quick, shared_recognition_lease_ms=LEASE_MS)
    holder = await single.worker(slow, shared_recognition_lease_ms=LEASE_MS)
    for worker in (other, holder):
        lossy = Lossy(worker._server, "held", worker.consumer, lease_ms=LEASE_MS)
        for part in (sharing(worker)._offerer, sharing(worker)._taker):
            part._shared = lossy
    slow.gate.clear()
    await holder.start()
    session = await single.spoken(recording())
    await eventually_async(lambda: counted(other, "recognised") > 1, WAIT_S)
    slow.gate.set()
    await ended(session)
    await is_as_undisturbed(session)
