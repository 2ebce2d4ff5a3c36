"""The log's side of replays: new runs over old audio."""

import msgspec
import numpy as np
import pytest

from eventlog.log import Code
from eventlog.positions import START, Position
from eventlog.work.replays import Replays, pin_start
from tests.support.deployment import Deployment, Session, finals_in
from tests.support.pcm import Story, talk

QUEUE = "mock"
TTL_S = 1_000


async def replay(deployment: Deployment, session: Session, run: str = "again") -> Code:
    """Starts one."""
    replays = Replays(deployment.server, session_ttl_s=TTL_S)
    total = await replays.read_total_samples(session.keys)
    return await replays.start(
        session.keys.run(run), pin_start(session.story.start), QUEUE, total_samples=0 if total is None else total
    )


async def test_a_replay_decides_what_the_live_run_did(deployment: Deployment) -> None:
    """REPLAY-1, REPLAY-3: a second run with the same settings has the same finals, to the sample, and its own facts."""
    session = await deployment.spoken(Story(talk()))
    await deployment.started()
    await deployment.ended(session)
    before = await session.facts()
    assert await replay(deployment, session) == Code.OK
    again = Session(deployment.log, session.keys, session.story)
    again.run = session.keys.run("again")
    assert await again.finals() == 0
    await deployment.started(queue=QUEUE)
    await deployment.ended(again)
    assert finals_in(await again.facts()) == finals_in(before)
    assert finals_in(before)
    assert await session.facts() == before
    [progress] = await Replays(deployment.server, session_ttl_s=TTL_S).read_progress([again.run])
    assert progress == (again.run, len(session.story.samples), len(session.story.samples), True, True)


async def test_workers_for_clients_leave_replays_alone(deployment: Deployment) -> None:
    """REPLAY-1: a replay waits on its own queue, for workers of that engine."""
    session = await deployment.spoken(Story(talk()))
    await deployment.started()
    await deployment.ended(session)
    assert await replay(deployment, session) == Code.OK
    other = await deployment.spoken(Story(talk()))
    await deployment.ended(other)
    pending = await deployment.server.execute("XPENDING", session.keys.partition.queue(QUEUE).sessions, "processor")
    assert pending[0] == 0
    assert len(await deployment.log.facts(session.keys.run("again"), START)) == 1


async def test_a_second_start_changes_nothing(deployment: Deployment) -> None:
    """REPLAY-1: starting the same run twice answers EXISTS; an entry that got lost is offered once more."""
    session = await deployment.spoken(Story(talk()))
    assert await replay(deployment, session) == Code.OK
    assert await replay(deployment, session) == Code.EXISTS
    offers = session.keys.partition.queue(QUEUE)
    assert await deployment.server.execute("XLEN", offers.sessions) == 1
    await deployment.server.execute("XTRIM", offers.sessions, "MAXLEN", 0)
    assert await replay(deployment, session) == Code.EXISTS
    assert await deployment.server.execute("XLEN", offers.sessions) == 1


async def test_what_cannot_be_replayed_is_refused(deployment: Deployment) -> None:
    """REPLAY-1: a session that is open, is unknown, was erased, or lost its beginning gets no replay, and no key."""
    going = await deployment.open(Story(talk(), sealed=False))
    assert await replay(deployment, going) == Code.NOT_ENDED
    trimmed = await deployment.spoken(Story(talk()))
    await deployment.server.execute("XTRIM", trimmed.keys.audio, "MINID", str(Position(1, 0)))
    assert await replay(deployment, trimmed) == Code.TRIMMED
    erased = await deployment.spoken(Story(talk()))
    await deployment.server.execute("ZADD", erased.keys.partition.erased, 1, erased.keys.session_id)
    assert await replay(deployment, erased) == Code.GONE
    unknown = Session(deployment.log, deployment.server.keys.of("nobody"), going.story)
    assert await replay(deployment, unknown) == Code.GONE
    for session in (going, trimmed, erased, unknown):
        run = session.keys.run("again")
        keys = (run.transcript, run.checkpoint, run.partition.queue(QUEUE).sessions, run.partition.queue(QUEUE).entries)
        assert sum([await deployment.server.execute("EXISTS", key) for key in keys]) == 0


async def test_a_replay_frees_no_audio(deployment: Deployment) -> None:
    """REPLAY-1: what a replay has processed stays for the next one, whatever the retention is."""
    session = await deployment.spoken(Story(np.tile(talk(), (3, 1))))
    await deployment.started(audio_retention_s=600)
    await deployment.ended(session)
    entries = await deployment.server.execute("XLEN", session.keys.audio)
    assert await replay(deployment, session) == Code.OK
    again = Session(deployment.log, session.keys, session.story)
    again.run = session.keys.run("again")
    await deployment.started(queue=QUEUE, audio_retention_s=0)
    await deployment.ended(again)
    assert await deployment.server.execute("XLEN", session.keys.audio) == entries


def test_a_change_of_the_wrong_type_is_refused() -> None:
    """REPLAY-1: what a replay pins is checked before it is written."""
    with pytest.raises(msgspec.ValidationError):
        pin_start(Story(talk()).start, engine=5)
