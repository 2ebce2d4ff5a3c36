"""Quarantined runs, in the log (SAFE-3)."""

import pytest

from eventlog.events import RunQuarantined, RunRedriven, SessionEnded, SessionStarted
from eventlog.keys import LIVE_QUEUE
from eventlog.log import Append, Claim, Code, LogUnavailableError
from eventlog.positions import SEALED
from eventlog.redis.server import Server as Connection
from eventlog.work.claims import Claims
from eventlog.work.erasure import erase
from eventlog.work.quarantine import QuarantinedRun
from eventlog.work.replays import Replays
from processor.janitor import Janitor
from processor.settings import WorkerSettings
from projections.integration_events import Kind, batch_kinds
from tests.integration.eventlog.events_seen import FACTS
from tests.integration.quarantine.poisoned_workers import TTL_S, acts, facts_of, listed, standings
from tests.support.deployment import Deployment
from tests.support.pcm import Story, talk

LEASE_MS = 5_000


async def claimed(deployment: Deployment, queue: str = LIVE_QUEUE) -> tuple[Claims, Claim]:
    """The one offered run, claimed."""
    claims = Claims(deployment.server, "w1", lease_ms=LEASE_MS, session_ttl_s=TTL_S, queue=queue)
    await claims.ensure_groups()
    [claim] = await claims.take_new(deployment.server.keys.partitions, 9)
    return claims, claim


async def poisoned(deployment: Deployment, queue: str = LIVE_QUEUE) -> QuarantinedRun:
    """Quarantines the one offered run."""
    claims, claim = await claimed(deployment, queue)
    assert await claims.quarantine(claim, "a reason") == Code.OK
    [quarantined] = await listed(deployment.server)
    return quarantined


async def ttl_s(server: Connection, key: str) -> int:
    """A key's time to live."""
    return int(await server.execute("TTL", key))


async def test_a_run_states_its_quarantine(deployment: Deployment) -> None:
    """SAFE-3: with one script the run is no longer offered, listed with reason and worker, and its facts state it."""
    session = await deployment.spoken(Story(talk()))
    server, keys = deployment.server, session.run
    notices = await server.execute("XLEN", keys.partition.changes)
    quarantined = await poisoned(deployment)
    assert (quarantined.keys.member, quarantined.reason) == (keys.member, "a reason")
    assert (quarantined.consumer, quarantined.times) == ("w1", 1)
    assert standings(await facts_of(server, keys)) == [RunQuarantined]
    assert await server.execute("XLEN", keys.partition.changes) == notices + 1
    assert keys.member not in await session.hash(keys.partition.entries)
    assert await server.execute("XLEN", keys.partition.sessions) == 0
    kept = (keys.transcript, keys.checkpoint, keys.session.session, keys.session.audio, keys.partition.quarantined)
    for key in kept:
        assert TTL_S - 60 < await ttl_s(server, key) <= TTL_S


async def test_only_the_holder_quarantines(deployment: Deployment) -> None:
    """SAFE-2: a worker that lost the claim quarantines nothing, and a repeated call changes nothing."""
    session = await deployment.spoken(Story(talk()))
    claims, claim = await claimed(deployment)
    assert await claims.quarantine(claim._replace(deliveries=2), "a reason") == Code.LOST
    assert await listed(deployment.server) == []
    assert await claims.quarantine(claim, "a reason") == Code.OK
    assert await claims.quarantine(claim, "a reason") == Code.LOST
    assert len(await listed(deployment.server)) == 1
    assert standings(await facts_of(deployment.server, session.run)) == [RunQuarantined]


async def test_a_run_is_redriven(deployment: Deployment) -> None:
    """SAFE-3: a redriven run is offered again without suspicion, not listed, and its facts state it; once only."""
    session = await deployment.spoken(Story(talk()))
    quarantined = await poisoned(deployment)
    await deployment.server.execute("HSET", session.run.checkpoint, "suspicion", 3)
    assert await acts(deployment.server).redrive(quarantined) == Code.OK
    assert await acts(deployment.server).redrive(quarantined) == Code.LOST
    assert await listed(deployment.server) == []
    claims, claim = await claimed(deployment)
    [started] = await claims.load([claim])
    assert (started.code, started.checkpoint.suspicion) == (Code.OK, 0)
    assert standings(await facts_of(deployment.server, session.run)) == [RunQuarantined, RunRedriven]
    assert await claims.quarantine(claim, "again") == Code.OK
    [quarantined] = await listed(deployment.server)
    assert (quarantined.reason, quarantined.times) == ("again", 2)


async def test_a_run_is_failed_for_good(deployment: Deployment) -> None:
    """SAFE-3: a failed run ends with the reason, its session takes no more audio, and the list loses it."""
    session = await deployment.spoken(Story(talk(), sealed=False))
    quarantined = await poisoned(deployment)
    head = session.entries[-1].position
    assert await acts(deployment.server).fail(quarantined) == Code.OK
    last = (await facts_of(deployment.server, session.run))[-1]
    assert isinstance(last, SessionEnded)
    assert (last.reason, last.utterances, last.sample_rate_hz) == ("failed", 0, 16_000)
    assert "a reason" in last.detail
    assert await listed(deployment.server) == []
    late = Append(session.keys, 1, head, head.control(), b"{}", is_audio=False)
    assert [one.code for one in await deployment.log.append([late])] == [Code.SEALED]
    assert await acts(deployment.server).redrive(quarantined) == Code.LOST
    assert "done" in await session.checkpoint()


async def test_the_end_comes_after_all_facts(deployment: Deployment) -> None:
    """The end of a failed recorded run has the audio's length, and is the last of its facts."""
    session = await deployment.spoken(Story(talk()))
    await acts(deployment.server).fail(await poisoned(deployment))
    [(position, _)] = (await session.facts())[-1:]
    last = (await facts_of(deployment.server, session.run))[-1]
    assert position == SEALED
    assert isinstance(last, SessionEnded)
    assert last.audio_samples == len(talk())


async def test_nothing_is_brought_back(deployment: Deployment) -> None:
    """STITCH-5: an erased run can be neither redriven nor failed, and no key of it comes back; erasing unlists it."""
    session = await deployment.spoken(Story(talk()))
    quarantined = await poisoned(deployment)
    await deployment.server.execute_many([("UNLINK", key) for key in session.run.expiring()])
    assert await acts(deployment.server).redrive(quarantined) == Code.GONE
    assert await listed(deployment.server) == []
    assert await deployment.server.execute("EXISTS", session.run.transcript) == 0
    other = await deployment.spoken(Story(talk()))
    quarantined = await poisoned(deployment)
    await erase(deployment.server, other.keys, "")
    assert await listed(deployment.server) == []
    assert await acts(deployment.server).fail(quarantined) == Code.LOST
    assert await deployment.server.execute("EXISTS", other.run.transcript) == 0


async def test_a_run_that_is_over_is_only_unlisted(deployment: Deployment) -> None:
    """A run that has ended meanwhile, or is offered, is removed from the list and otherwise left alone."""
    session = await deployment.spoken(Story(talk()))
    quarantined = await poisoned(deployment)
    partition, server = session.keys.partition, deployment.server
    entry = await server.execute("XADD", partition.sessions, "*", "run", session.run.member)
    await server.execute("HSET", partition.entries, session.run.member, entry)
    assert await acts(server).fail(quarantined) == Code.EXISTS
    assert standings(await facts_of(server, session.run)) == [RunQuarantined]
    claims, claim = await claimed(deployment)
    assert await claims.quarantine(claim, "again") == Code.OK
    [quarantined] = await listed(server)
    await server.execute("HSET", session.run.checkpoint, "done", "a token")
    assert await acts(server).redrive(quarantined) == Code.SEALED
    assert await listed(server) == []


async def test_entries_of_earlier_versions_are_read(deployment: Deployment) -> None:
    """OPS-1: a run that an earlier version quarantined, which stated nothing, is listed and redriven as any other."""
    session = await deployment.spoken(Story(talk()))
    _, claim = await claimed(deployment)
    partition, server = session.keys.partition, deployment.server
    await server.execute("XACK", partition.sessions, "processor", claim.entry_id)
    await server.execute("XDEL", partition.sessions, claim.entry_id)
    await server.execute("HDEL", partition.entries, session.run.member)
    fields = ("run", session.run.member, "reason", "an old one", "consumer", "w0")
    await server.execute("XADD", partition.quarantined, "*", *fields)
    [quarantined] = await listed(server)
    assert (quarantined.reason, quarantined.queue, quarantined.times) == ("an old one", LIVE_QUEUE, 1)
    assert await acts(server).redrive(quarantined) == Code.OK
    await claimed(deployment)


async def test_replays_go_back_to_their_queue(deployment: Deployment) -> None:
    """A quarantined replay is redriven on the queue of its engine, and no new start of it offers it again."""
    session = await deployment.spoken(Story(talk()))
    await claimed(deployment)
    keys, server = session.keys.run("again"), deployment.server
    replays = Replays(server, session_ttl_s=TTL_S)
    start = SessionStarted(session_id=keys.session_id, sample_rate_hz=16_000)
    assert await replays.start(keys, start, "mock", total_samples=len(talk())) == Code.OK
    quarantined = await poisoned(deployment, "mock")
    assert (quarantined.keys.run, quarantined.queue) == ("again", "mock")
    assert await replays.start(keys, start, "mock", total_samples=len(talk())) == Code.EXISTS
    queue = keys.partition.queue("mock")
    assert await server.execute("XLEN", queue.sessions) == 0
    await server.execute("UNLINK", queue.sessions)  # it may have expired meanwhile
    assert await acts(server).redrive(quarantined) == Code.OK
    assert 0 < await ttl_s(server, queue.sessions) <= TTL_S
    _, claim = await claimed(deployment, "mock")
    assert claim.keys.member == keys.member
    assert standings(await facts_of(server, keys)) == [RunQuarantined, RunRedriven]


async def test_the_list_lives_no_longer_than_its_runs(single: Deployment) -> None:
    """The janitor unlists runs quarantined a session TTL ago, whose keys have expired by then."""
    session = await single.spoken(Story(talk()))
    server, partition = single.server, session.keys.partition
    old_ms = await server.time_ms() - 1000 * (TTL_S + 1)
    fields = ("run", session.run.member, "reason", "an old one", "consumer", "w0")
    await server.execute("XADD", partition.quarantined, f"{old_ms}-0", *fields)
    assert len(await listed(server)) == 1
    claims = Claims(server, "w1", lease_ms=LEASE_MS, session_ttl_s=TTL_S)
    await claims.ensure_groups()
    await Janitor(single.log, claims, WorkerSettings(session_ttl_s=TTL_S, sweep_s=0.01)).sweep()
    assert await listed(server) == []


@pytest.mark.parametrize("name", ["run_set_aside.v1", "run_redriven.v1"])
def test_a_quarantined_batch_is_not_finished(name: str) -> None:
    """BATCH-4: neither fact makes an event; the end does, exactly one, which then is that of a failure."""
    opened = FACTS["session_opened.v1.batch"]
    assert batch_kinds(opened, FACTS[name]) == ()  # type: ignore[arg-type]
    assert batch_kinds(opened, FACTS["session_ended.v1.failed"]) == (Kind.BATCH_FAILED,)  # type: ignore[arg-type]


async def test_a_session_of_an_unreachable_node_is_shown(single: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the audio of a failed run could not be sealed the caller gets an error."""
    await single.spoken(Story(talk(), sealed=False))
    quarantine, quarantined = acts(single.server), await poisoned(single)

    async def unreached(*_: object) -> list[Code]:
        return [Code.UNKNOWN, Code.UNKNOWN]

    monkeypatch.setattr(quarantine._log, "seal_many", unreached)
    with pytest.raises(LogUnavailableError, match="could not be"):
        await quarantine.fail(quarantined)
