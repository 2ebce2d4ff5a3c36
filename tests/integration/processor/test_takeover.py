"""Claims that change hands: shutdown, death, a holder that was thought dead, a Redis that stalls."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import numpy as np
import pytest

from eventlog.keys import RunKeys
from eventlog.log import Code, Commit, Committed
from eventlog.positions import OPENED, Position
from eventlog.redis.redis_log import RedisLog
from processor.active_runs import ActiveRun
from processor.worker import Worker
from tests.support.deployment import Deployment, abandon, finals_in, held
from tests.support.pcm import Story, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.servers import Server
from tests.support.waiting import eventually_async

EVENTFUL = Story(talk(16_000, 2), finalized=[33_333, 70_001], holes=[(100_000, 110_005)])

# Short, so that a takeover costs a test little; the tests without a takeover have the default of seconds.
LEASE_MS = 250


async def test_a_stopped_worker_hands_over_at_once(deployment: Deployment) -> None:
    """On a graceful stop others have every session within a second, even amid utterances; no fact differs (SESS-8)."""
    recogniser = HeldRecogniser(max_batch=1)
    sessions = [await deployment.open(EVENTFUL) for _ in range(5)]
    for session in sessions:
        await session.say(session.entries[:30])
    first = await deployment.started(recogniser)
    await held(first, 5)
    await eventually_async(lambda: any(run.waiting_utterances for run in first.active_runs))
    second = await deployment.started()
    stopped_s = time.monotonic()
    await first.stop()
    await held(second, 5)
    assert time.monotonic() - stopped_s < 1
    for session in sessions:
        await session.say(session.entries[30:])
    await deployment.ended(*sessions)
    for session in sessions:
        assert await session.facts() == session.expected()
        assert (await session.checkpoint()).get("suspicion", "0") == "0"


async def test_sessions_wait_for_a_worker(deployment: Deployment) -> None:
    """Handed over without another worker, sessions wait, and the next worker resumes at the last one's checkpoint."""
    session = await deployment.open(EVENTFUL)
    for share in range(0, len(session.entries), 20):
        worker = await deployment.started()
        await held(worker, 1)
        await session.say(chunks := session.entries[share : share + 20])
        [run] = worker.active_runs
        await eventually_async(partial(reached, run, chunks[-1].position))
        await worker.stop()
    await deployment.ended(session)
    assert await session.facts() == session.expected()


def reached(run: ActiveRun, position: Position) -> bool:
    """Whether a run has been read up to a position, and everything in it is committed."""
    return run.timeline.cursor >= position and not run.pending


async def test_a_dead_workers_sessions_are_taken_over_after_the_lease(deployment: Deployment) -> None:
    """A dead worker's uncommitted decisions are made again by its successor, once (SAFE-1)."""
    session = await deployment.open(EVENTFUL)
    await session.say(session.entries[:50])
    first = await deployment.started(lease_ms=LEASE_MS)
    await eventually_async(session.finals)
    await abandon(first)
    await session.say(session.entries[50:])
    await deployment.ended(session, hurried=await deployment.started(lease_ms=LEASE_MS))
    assert await session.facts() == session.expected()
    assert (await session.checkpoint())["suspicion"] == "0"


async def test_a_worker_that_was_thought_dead_writes_nothing(deployment: Deployment) -> None:
    """A holder whose renewals failed for a lease loses its run, and Redis refuses its late commit (SAFE-2)."""
    recogniser = HeldRecogniser(max_batch=1)
    session = await deployment.spoken(EVENTFUL)
    first = await deployment.worker(recogniser, lease_ms=LEASE_MS)
    first._keeper.renew = forgotten  # type: ignore[method-assign]
    await first.start()
    await eventually_async(lambda: recogniser.calls)
    second = await deployment.started(lease_ms=LEASE_MS)
    await deployment.ended(session, hurried=second)
    assert len(first.active_runs) == 1, "the first still believes that it has the run"
    recogniser.gate.set()
    await held(first, 0)
    assert await session.facts() == session.expected()


async def forgotten() -> None:
    """Renewals that never reach Redis."""


class UnansweredLog(RedisLog):
    """A log whose first commit is written, and whose answer never comes."""

    def __init__(self, worker: Worker) -> None:
        """Stand between `worker` and its log."""
        super().__init__(worker._server, session_ttl_s=1_000)
        self.has_committed = asyncio.Event()
        worker._committer._log = self

    async def commit(self, commits: Sequence[Commit]) -> list[Committed]:
        """Commit, and never return."""
        answers = await super().commit(commits)
        assert [one.code for one in answers] == [Code.OK]
        self.has_committed.set()
        await asyncio.Event().wait()
        return answers


class LossyLog(RedisLog):
    """A log that gives no answer to some commits at their first try: some of these are written, some aren't."""

    def __init__(self, worker: Worker) -> None:
        """Stand between `worker` and its log."""
        super().__init__(worker._server, session_ttl_s=1_000)
        self.lost_commits: dict[tuple[str, int], Commit] = {}
        self.retried = 0
        worker._committer._log = self

    async def commit(self, commits: Sequence[Commit]) -> list[Committed]:
        """Commit all but those that get lost, and answer UNKNOWN for each that is asked for the first time."""
        answers = []
        for commit in commits:
            name = (commit.claim.keys.member, commit.checkpoint.serial)
            first = name not in self.lost_commits
            if not first:
                assert commit is self.lost_commits[name], "the very same commit"
                self.retried += 1
            self.lost_commits[name] = commit
            is_lost = first and commit.checkpoint.serial % 2 == 0
            answer = Committed(Code.UNKNOWN) if is_lost else (await super().commit([commit]))[0]
            answers.append(Committed(Code.UNKNOWN) if first else answer)
        return answers


class Forgetful(RedisLog):
    """A log that rolls its second commit back before the third, as a failover does."""

    def __init__(self, worker: Worker, run: RunKeys) -> None:
        """Stand between `worker` and its log; roll back commits of `run`."""
        super().__init__(worker._server, session_ttl_s=1_000)
        self.forgot = False
        self._keys = (run.transcript, run.checkpoint)
        self._before: list[bytes] = []
        worker._committer._log = self

    async def commit(self, commits: Sequence[Commit]) -> list[Committed]:
        """Commit, after a rollback if one is due."""
        [commit] = commits
        if commit.checkpoint.serial == 2:
            self._before = await self.server.execute_many([("DUMP", key) for key in self._keys])
        if commit.checkpoint.serial == 3 and not self.forgot:
            self.forgot = True
            for key, before in zip(self._keys, self._before, strict=True):
                await self.server.execute("RESTORE", key, 0, before, "REPLACE")
        return await super().commit(commits)


async def test_a_run_whose_commits_were_rolled_back_is_taken_again_at_once(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts that a failover rolled back are decided again at once, not after a lease, and are the same (SAFE-1)."""
    monkeypatch.setattr("processor.active_runs.MAX_DECISIONS_PER_COMMIT", 1)
    session = await deployment.spoken(EVENTFUL)
    worker = await deployment.worker(lease_ms=600_000)
    log = Forgetful(worker, session.run)
    await worker.start()
    await deployment.ended(session)
    assert log.forgot
    assert await session.facts() == session.expected()


async def test_a_commit_without_an_answer_is_retried_as_it_was(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether an unanswered commit was written or not, each fact is there once in the end (SAFE-1)."""
    monkeypatch.setattr("processor.active_runs.MAX_DECISIONS_PER_COMMIT", 1)
    monkeypatch.setattr("processor.committer.RETRY_S", 0.001)
    sessions = [await deployment.spoken(EVENTFUL), await deployment.spoken(Story(talk()))]
    worker = await deployment.worker()
    log = LossyLog(worker)
    await worker.start()
    await deployment.ended(*sessions)
    assert log.retried == len(log.lost_commits) > 2
    for session in sessions:
        assert await session.facts() == session.expected()


async def test_death_at_every_commit_changes_nothing(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that each die right after one commit, its answer lost, write together the facts of one (SAFE-1)."""
    monkeypatch.setattr("processor.active_runs.MAX_DECISIONS_PER_COMMIT", 1)
    session = await deployment.spoken(EVENTFUL)
    deaths = 0
    while not await session.has_ended():
        worker = await deployment.worker(lease_ms=100)
        last = UnansweredLog(worker)
        await worker.start()

        def look(worker: Worker = worker, last: UnansweredLog = last) -> bool:
            worker._keeper.wake()
            return last.has_committed.is_set()

        await eventually_async(look)
        await abandon(worker)
        deaths += 1
    assert deaths > len(session.expected()) - 1
    assert await session.facts() == session.expected()
    assert await session.hash(session.keys.partition.entries) == {}


async def test_death_before_a_commit_changes_nothing(deployment: Deployment) -> None:
    """A commit that was never sent is made by the next holder from the checkpoint before it (SAFE-1)."""
    session = await deployment.spoken(EVENTFUL)
    first = await deployment.worker(lease_ms=100)
    is_committing = asyncio.Event()

    async def unanswered(commits: Sequence[Commit]) -> list[Committed]:
        is_committing.set()
        await asyncio.Event().wait()
        raise AssertionError(len(commits))

    first._log.commit = unanswered  # type: ignore[method-assign]
    await first.start()
    await asyncio.wait_for(is_committing.wait(), 10)
    await abandon(first)
    assert [at for at, _ in await session.facts()] == [OPENED]
    await deployment.ended(session, hurried=await deployment.started(lease_ms=100))
    assert await session.facts() == session.expected()


async def test_no_live_holder_loses_a_run_while_redis_stalls(server: Server, deployment: Deployment) -> None:
    """After a stall of Redis longer than the lease every worker still has its own sessions, none doubled or lost."""
    sessions = [await deployment.open(Story(talk())) for _ in range(6)]
    workers = [await deployment.started(lease_ms=600, capacity=3) for _ in range(2)]
    for worker in workers:
        await held(worker, 3)
    for worker in workers:
        worker.active_runs.capacity = 10  # room enough to steal
    before = [{claim.keys.member: claim for claim in worker.active_runs.claims} for worker in workers]
    await eventually_async(lambda: all(worker._keeper._grace_until < time.monotonic() for worker in workers))
    server.pause_ms(900)
    for session in sessions:
        await session.say()
    await deployment.ended(*sessions)
    for session in sessions:
        assert await session.facts() == session.expected()
        assert (await session.checkpoint())["suspicion"] == "0"
        [owner] = [claims[session.run.member] for claims in before if session.run.member in claims]
        assert (await session.checkpoint())["done"] == f"{owner.entry_id} {owner.consumer} {owner.deliveries}"


async def test_a_worker_takes_over_nothing_for_a_lease_after_its_start(deployment: Deployment) -> None:
    """A worker that has just started takes over nothing for one lease: the holders may only have stalled."""
    session = await deployment.spoken(EVENTFUL)
    dead = await deployment.claims("dead", lease_ms=0)
    await dead.ensure_groups()
    [claim] = await dead.take_new([session.keys.partition], 1)
    worker = await deployment.worker(lease_ms=60_000)
    await worker.start()
    await worker._keeper.take(deployment.server.keys.partitions)
    assert len(worker.active_runs) == 0
    worker._claims.lease_ms = 30

    async def look() -> int:
        worker._keeper._grace_until = 0.0
        await worker._keeper.take([])
        return len(worker.active_runs)

    await eventually_async(look)
    assert [one.deliveries for one in worker.active_runs.claims] == [claim.deliveries + 1]


@pytest.mark.parametrize("slow", ["take_new", "renew", "take_over"])
async def test_a_slow_call_begins_a_grace_period(single: Deployment, slow: str) -> None:
    """A call that took longer than a third of the lease stops takeovers for one lease."""
    worker = await single.worker(lease_ms=30)
    await worker._claims.ensure_groups()
    keeper = worker._keeper
    original: Callable[..., Awaitable[object]] = getattr(worker._claims, slow)

    async def stalled(*arguments: object) -> object:
        deadline_s = time.monotonic() + 0.02
        await eventually_async(lambda: time.monotonic() > deadline_s)
        return await original(*arguments)

    keeper._grace_until = 0.0
    setattr(worker._claims, slow, stalled)
    await (keeper.renew() if slow == "renew" else keeper.take(single.server.keys.partitions))
    assert keeper._grace_until > time.monotonic()


async def test_a_clock_step_begins_a_grace_period(single: Deployment) -> None:
    """When Redis's clock steps against the worker's, idle times are wrong, so nothing is taken over for one lease."""
    worker = await single.worker()
    await worker._claims.ensure_groups()
    keeper = worker._keeper
    await keeper.renew()
    keeper._grace_until = 0.0
    await keeper.renew()
    assert keeper._grace_until == 0.0
    assert keeper._clock_offset_ms is not None
    keeper._clock_offset_ms -= 60_000
    await keeper.renew()
    assert keeper._grace_until > time.monotonic()


async def test_stop_and_start_may_race(deployment: Deployment) -> None:
    """A worker stopped at any moment of its start or after it leaves no claim behind and no task running."""
    session = await deployment.spoken(Story(talk()))
    for pauses in range(12):
        worker = await deployment.worker()
        starting = asyncio.create_task(worker.start())
        for _ in range(pauses * 3):
            await asyncio.wait([asyncio.create_task(nothing())])
        await asyncio.gather(worker.stop(), worker.stop())
        await starting
        await worker.stop()
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("worker ")] == []
        pending = await deployment.server.execute("XPENDING", session.keys.partition.sessions, "processor")
        assert pending[0] == 0
        assert len(worker.active_runs) == 0
    await deployment.started()
    await deployment.ended(session)
    assert await session.facts() == session.expected()


async def nothing() -> None:
    """One turn of the event loop."""


async def test_one_session_is_in_one_place(deployment: Deployment) -> None:
    """Several workers share many sessions, each in one worker, and every fact is there once."""
    workers = [await deployment.started(capacity=4) for _ in range(3)]
    sessions = [await deployment.open(Story(np.roll(talk(), 1_600 * number, axis=0))) for number in range(10)]
    await eventually_async(lambda: sum(len(worker.active_runs) for worker in workers) == 10)
    members = [claim.keys.member for worker in workers for claim in worker.active_runs.claims]
    assert sorted(members) == sorted(session.run.member for session in sessions)
    for session in sessions:
        await session.say()
    await deployment.ended(*sessions)
    for session in sessions:
        assert await session.facts() == session.expected()
        assert finals_in(await session.facts())
