"""A replay of many sessions, from the first offer to the last outcome."""

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import pytest

from eventlog.log import Code, LogUnavailableError
from eventlog.positions import Position
from eventlog.work.erasure import erase
from eventlog.work.quarantine import Quarantine, list_quarantined_runs
from stenolog.operations.replay import replay as replay_module
from stenolog.operations.replay.log_source import LogSource
from stenolog.operations.replay.replay import Retry
from stenolog.operations.replay.run_overrides import RunOverrides
from stenolog.operations.replay.sources import Selection
from tests.integration.replay.replays import QUEUE, TTL_S, RecordedReplay, found
from tests.support.deployment import Deployment, Session, abandon, finals_in
from tests.support.pcm import Story, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.servers import Node
from tests.support.waiting import TIMEOUT_S, eventually_async

LEASE_MS = 1_000


async def transcribed(deployment: Deployment, count: int = 1, story: Story | None = None) -> list[Session]:
    """Sessions that a worker for clients has finished."""
    sessions = [await deployment.spoken(story or Story(talk())) for _ in range(count)]
    worker = await deployment.started()
    await deployment.ended(*sessions)
    await worker.stop()
    return sessions


async def test_every_session_is_replayed_beside_its_live_run(deployment: Deployment) -> None:
    """REPLAY-1, REPLAY-3: each gets a new run with the same finals; older runs stay, and a second time skips."""
    sessions = await transcribed(deployment, 5)
    before = [await session.facts() for session in sessions]
    await deployment.started(queue=QUEUE)
    watched = RecordedReplay(deployment)
    replayables = await found([LogSource(deployment.server)])
    outcomes = await watched.over(replayables)
    assert outcomes == {session.keys.session_id: ("done", "") for session in sessions}
    assert sum(one.audio_s for one in watched.outcomes) == sum(one.audio_s for one in replayables)
    for session, facts in zip(sessions, before, strict=True):
        assert finals_in(await watched.of(session).facts()) == finals_in(facts)
        assert await session.facts() == facts
    assert watched.started == 1
    again = await watched.over(replayables)
    assert {status for status, _ in again.values()} == {"skipped"}
    assert watched.started == 1


async def test_other_settings_make_another_run(single: Deployment) -> None:
    """REPLAY-1: a replay with a longer hang-over cuts the same speech otherwise."""
    [session] = await transcribed(single)
    await single.started(queue=QUEUE)
    pinned = ["hangover_ms=2000", "hard_cut_ms=20000", "soft_cut_ms=15000"]
    overrides = RunOverrides.parse(pinned, engine=QUEUE, language=None)
    watched = RecordedReplay(single, overrides=overrides)
    await watched.over(await found([LogSource(single.server)]))
    cut = [(one.start_samples, one.end_samples) for one in finals_in(await watched.of(session).facts())]
    own = [(one.start_samples, one.end_samples) for one in finals_in(await session.facts())]
    assert cut
    assert len(cut) < len(own)


async def test_a_name_stands_for_one_choice_of_settings(single: Deployment) -> None:
    """REPLAY-1: a run of that name with other settings is neither changed nor taken for this one."""
    [session] = await transcribed(single)
    replayables = await found([LogSource(single.server)])
    await RecordedReplay(single).over(replayables, wait=False)
    other = RecordedReplay(single, overrides=RunOverrides(engine=QUEUE, segmenter={"hangover_ms": 900}))
    [(status, reason)] = (await other.over(replayables)).values()
    assert status == "failed"
    assert "choose another --name" in reason
    assert other.started == 0
    await single.started(queue=QUEUE)
    [(status, _)] = (await RecordedReplay(single).over(replayables)).values()
    assert status == "done"
    assert finals_in(await RecordedReplay(single).of(session).facts()) == finals_in(await session.facts())


async def test_what_cannot_be_replayed_is_reported_and_the_rest_continues(single: Deployment) -> None:
    """REPLAY-1: sessions that are open, were trimmed, or have settings that clash fail by name; the others are done."""
    [whole] = await transcribed(single)
    own_cut = Story(talk(), segmenter=Story(talk()).segmenter | {"hard_cut_ms": 1_600})
    clashing = await single.spoken(own_cut)
    going = await single.open(Story(talk(), sealed=False))
    trimmed = await single.spoken(Story(talk()))
    await single.server.execute("XTRIM", trimmed.keys.audio, "MINID", str(Position(1, 0)))
    await single.started(queue=QUEUE)
    watched = RecordedReplay(single, overrides=RunOverrides(engine=QUEUE, segmenter={"soft_cut_ms": 2_000}))
    outcomes = await watched.over(await found([LogSource(single.server)]))
    assert outcomes[whole.keys.session_id] == ("done", "")
    assert "still open" in outcomes[going.keys.session_id][1]
    assert "freed already" in outcomes[trimmed.keys.session_id][1]
    assert "soft_cut_ms" in outcomes[clashing.keys.session_id][1]


async def test_a_replay_continues_where_dead_workers_left_it(deployment: Deployment) -> None:
    """REPLAY-1, SAFE-1: a repeated replay under the same name gives the result of an undisturbed one."""
    [session] = await transcribed(deployment, story=Story(np.tile(talk(), (4, 1))))
    held = HeldRecogniser(max_batch=1)
    dying = await deployment.started(held, queue=QUEUE, lease_ms=LEASE_MS)
    replayables = await found([LogSource(deployment.server)])
    watched = RecordedReplay(deployment)
    command = asyncio.create_task(watched.over(replayables))
    await eventually_async(lambda: held.calls)
    held.gate.set()
    run = watched.of(session)

    async def some_finals() -> bool:
        return await run.finals() > 0

    await eventually_async(some_finals)
    await abandon(dying)
    command.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await command
    living = await deployment.started(queue=QUEUE, lease_ms=LEASE_MS)
    second = asyncio.create_task(watched.over(replayables))
    await deployment.ended(run, hurried=living)
    [(status, _)] = (await second).values()
    assert status in {"done", "skipped"}  # the dying one may have got to the end
    assert finals_in(await run.facts()) == finals_in(await session.facts())


async def test_a_quarantined_run_ends_the_waiting(single: Deployment) -> None:
    """REPLAY-1, SAFE-3: a run that no worker will touch fails with the reason; redriven, it continues."""
    [session] = await transcribed(single)
    poisoned = HeldRecogniser(is_open=True)

    def fail(_clips: object) -> None:
        raise RuntimeError("broken")

    poisoned.fail = fail
    worker = await single.started(poisoned, queue=QUEUE)
    replayables = await found([LogSource(single.server)])
    watched = RecordedReplay(single)
    [(status, reason)] = (await watched.over(replayables)).values()
    assert status == "failed"
    assert "quarantined" in reason
    assert "RuntimeError" in reason
    await worker.stop()
    await single.started(queue=QUEUE)
    [(status, _)] = (await watched.over(replayables)).values()
    assert status == "failed"
    quarantined = [one async for one in list_quarantined_runs(single.server)]
    assert [await Quarantine(single.server, session_ttl_s=TTL_S).redrive(one) for one in quarantined] == [Code.OK]
    [(status, _)] = (await watched.over(replayables)).values()
    assert status in {"done", "skipped"}  # the worker may have been quicker
    assert finals_in(await watched.of(session).facts()) == finals_in(await session.facts())


async def test_a_session_erased_under_a_replay_ends_the_waiting(single: Deployment) -> None:
    """REPLAY-1, STITCH-5: a session that is deleted before its replay is reported as gone, and stays gone."""
    [session] = await transcribed(single)
    watched = RecordedReplay(single)
    command = asyncio.create_task(watched.over(await found([LogSource(single.server)])))
    await eventually_async(lambda: watched.started)
    await erase(single.server, session.keys, session.story.start.tenant_id)
    [(status, reason)] = (await command).values()
    assert (status, "deleted" in reason) == ("failed", True)
    assert not await single.server.execute("EXISTS", session.keys.run("again").transcript)


async def test_the_number_of_running_runs_is_bounded(
    single: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REPLAY-1: ten thousand sessions aren't started at once; new ones follow as others are over."""
    monkeypatch.setattr(replay_module, "MAX_RUNNING", 4)
    monkeypatch.setattr(replay_module, "POLL_PERIOD_S", 0.01)
    sessions = await transcribed(single, 12)
    watched = RecordedReplay(single)
    command = asyncio.create_task(watched.over(await found([LogSource(single.server)])))

    async def started() -> int:
        keys = [session.keys.run("again").transcript for session in sessions]
        return sum([await single.server.execute("EXISTS", key) for key in keys])

    async def four() -> bool:
        return await started() == 4

    await eventually_async(four)
    looks = len(watched.paces)
    await eventually_async(lambda: len(watched.paces) > looks + 2)
    assert await started() == 4
    await single.started(queue=QUEUE)
    assert {status for status, _ in (await command).values()} == {"done"}
    assert await started() == 12


async def test_without_waiting_every_run_is_only_started(single: Deployment) -> None:
    """REPLAY-1: without waiting it starts every run and leaves the work to workers elsewhere."""
    sessions = await transcribed(single, 3)
    watched = RecordedReplay(single)
    outcomes = await watched.over(await found([LogSource(single.server)]), wait=False)
    assert {status for status, _ in outcomes.values()} == {"started"}
    assert watched.started == 0
    await single.started(queue=QUEUE)
    await single.ended(*map(watched.of, sessions))


async def test_a_replay_waits_for_a_redis_that_is_gone(tmp_path: Path) -> None:
    """REPLAY-1: while Redis is away the replay says so once and waits; when it is back the replay ends as usual."""
    node = Node(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    try:
        node.wait_ready()
        async with Deployment(node.url) as deployment:
            [session] = await transcribed(deployment)
            watched = RecordedReplay(deployment)
            command = asyncio.create_task(watched.over(await found([LogSource(deployment.server)])))
            await eventually_async(lambda: watched.started)
            node.process.kill()
            node.process.wait()
            await eventually_async(lambda: watched.notes)
            again = Node(tmp_path, "--appendonly", "yes", "--appendfsync", "always", "--port", str(node.port))
            try:
                await eventually_async(lambda: len(watched.notes) > 1)
                await deployment.started(queue=QUEUE)
                assert {status for status, _ in (await command).values()} == {"done"}
                assert "trying again" in watched.notes[0]
                assert watched.notes[1] == "available again"
                assert finals_in(await watched.of(session).facts())
            finally:
                again.stop()
    finally:
        node.stop()


async def test_an_outage_is_reported_once() -> None:
    """REPLAY-1: of any number of failed calls one line is printed, and another one after the first success."""
    lines: list[str] = []
    errors = [LogUnavailableError("away")] * 2

    async def call() -> int:
        if errors:
            raise errors.pop()
        return 7

    assert await Retry(lines.append)(call) == 7
    assert lines == ["waiting, and trying again: away", "available again"]


async def test_a_named_session_alone_is_replayed(single: Deployment) -> None:
    """REPLAY-1: of several sessions only the chosen one gets a run."""
    one, other = await transcribed(single, 2)
    await single.started(queue=QUEUE)
    watched = RecordedReplay(single)
    outcomes = await watched.over(await found([LogSource(single.server)], Selection((one.keys.session_id,))))
    assert outcomes == {one.keys.session_id: ("done", "")}
    assert not await single.server.execute("EXISTS", other.keys.run("again").transcript)


async def test_a_replay_is_read_without_rest(single: Deployment) -> None:
    """REPLAY-1: recorded audio needn't be waited for: ninety reads take no ninety ticks."""
    [session] = await transcribed(single)
    await single.started(queue=QUEUE, tick_ms=3_000, max_read_bytes=4_096, max_pending_utterances=1_000)
    watched = RecordedReplay(single)
    async with asyncio.timeout(TIMEOUT_S):
        outcomes = await watched.over(await found([LogSource(single.server)]))
    assert outcomes == {session.keys.session_id: ("done", "")}
