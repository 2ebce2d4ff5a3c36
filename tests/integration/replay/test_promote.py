"""Promoting: readers receive one run of a session or another, always wholly."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog.keys import LIVE_RUN, RunKeys, SessionKeys
from eventlog.log import Code, LogFullError
from eventlog.redis.server import Server, connect
from eventlog.work.claims import Claims
from eventlog.work.erasure import erase
from eventlog.work.promotion import Promoted, promote, promoted_run, promoted_runs, reader_keys
from tests.integration.projections.facts import ended, write
from tests.integration.replay.runs import TTL_S, Content, a_session, as_text, own, project, read, say, texts
from tests.integration.replay.test_replaying import QUEUE
from tests.integration.replay.test_replaying import replay as start_replay
from tests.support import servers
from tests.support.deployment import Deployment
from tests.support.key_search import remains, without_ttl
from tests.support.pcm import Story, talk

PARTITIONS = 8


@pytest.fixture
async def log(server: servers.Server) -> AsyncIterator[Server]:
    """A connection to an empty Redis, once single and once a cluster."""
    connected = await connect(server.url, partitions=PARTITIONS)
    yield connected
    await connected.close()


@pytest.fixture
async def alone(standalone: servers.Server) -> AsyncIterator[Server]:
    """A connection to an empty single Redis, where a cluster would add nothing."""
    connected = await connect(standalone.url, partitions=PARTITIONS)
    yield connected
    await connected.close()


async def switched(log: Server, *runs: RunKeys) -> list[str]:
    """Promotes runs, which must go well, and says which were promoted before."""
    answers = await promote(log, runs)
    assert {answer.code for answer in answers} == {Code.OK}
    return [answer.run for answer in answers]


async def everything(log: Server, session: SessionKeys, runs: tuple[str, ...]) -> dict[str, Content]:
    """Each run's own read models."""
    return {run: await own(log, session.run(run)) for run in runs}


async def test_readers_get_the_promoted_run(log: Server) -> None:
    """REPLAY-1: the documented List, the document and the view become the promoted run's, and the live run's again."""
    session = await a_session(log, "again")
    before = await everything(log, session, (LIVE_RUN, "again"))
    assert await read(log, session) == before[LIVE_RUN]
    assert await switched(log, session.run("again")) == [LIVE_RUN]
    entries, document, view = await read(log, session)
    assert [msgspec.json.decode(entry)["text"] for entry in entries] == texts("again", 2)
    assert (msgspec.json.decode(document)["run"], view["run"], view["finals"]) == ("again", "again", "2")
    assert await everything(log, session, (LIVE_RUN, "again")) == before
    assert (await promoted_run(log, session)).run == "again"
    assert await switched(log, session.run()) == ["again"]
    assert await read(log, session) == before[LIVE_RUN]
    assert await log.execute("EXISTS", session.promoted, session.live_list, session.live_document) == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.sampled_from([LIVE_RUN, "a", "b", "empty"]), max_size=8))
async def test_any_promotions_lead_to_the_last(alone: Server, order: list[str]) -> None:
    """REPLAY-1: after any promotions, repeated ones too, readers receive the last, and every run still has its own."""
    session = await a_session(alone, "a", "b")
    await say(alone, session.run("empty"), [])
    await project(alone, session.run("empty"))
    runs = (LIVE_RUN, "a", "b", "empty")
    before = await everything(alone, session, runs)
    promoted = LIVE_RUN
    for run in order:
        assert await switched(alone, session.run(run)) == [promoted]
        promoted = run
        assert await read(alone, session) == before[run]
        assert await everything(alone, session, runs) == before


async def test_a_reader_never_sees_half_a_promotion(alone: Server) -> None:
    """REPLAY-1: a reader of List, document and view together during promotions gets one run, and all of it."""
    session = await a_session(alone, "again", count=40)
    whole = await everything(alone, session, (LIVE_RUN, "again"))
    done = asyncio.Event()
    seen: list[str] = []

    async def look() -> None:
        reader = await connect(alone.url, partitions=PARTITIONS)
        keys = reader_keys(session)
        while not done.is_set() or not seen:
            async with reader.client.pipeline(transaction=True) as together:
                together.lrange(keys.list, 0, -1)
                together.get(keys.document)
                together.hgetall(keys.view)
                together.get(session.promoted)
                entries, document, view, promoted = await together.execute()
            run = promoted.decode() if promoted else LIVE_RUN
            assert ([entry.decode() for entry in entries], document.decode(), as_text(view)) == whole[run]
            seen.append(run)
        await reader.close()

    async def switch() -> None:
        try:
            for _ in range(25):
                for run in ("again", LIVE_RUN):
                    # The readers may be slow to begin: each promotion is looked at.
                    looked = len(seen)
                    await switched(alone, session.run(run))
                    async with asyncio.timeout(30):
                        while len(seen) < looked + 3:
                            await alone.time_ms()
        finally:
            done.set()

    async with asyncio.TaskGroup() as tasks:
        for work in (look(), look(), switch()):
            tasks.create_task(work)
    assert set(seen) == {LIVE_RUN, "again"}


async def test_an_unfinished_run_is_not_promoted(log: Server) -> None:
    """REPLAY-1: neither a run that isn't over, nor one whose read models are behind, gives way or is promoted."""
    session = await a_session(log)
    again = session.run("again")
    await say(log, again, texts("again"), is_over=False)
    await project(log, again)
    before = await read(log, session)
    assert await promote(log, [again]) == [Promoted(Code.NOT_ENDED, "again")]
    await write(log, again, [ended(3)])
    for part in ("lists", "sessions"):
        assert await promote(log, [again]) == [Promoted(Code.NOT_ENDED, "again")]
        await project(log, again, only=[part])
    assert await promote(log, [again]) == [Promoted(Code.NOT_ENDED, "again")]
    assert await read(log, session) == before
    await project(log, again)
    assert await switched(log, again) == [LIVE_RUN]


@pytest.mark.parametrize("behind", ["lists", "sessions"])
async def test_a_live_run_that_is_behind_gives_no_way(alone: Server, behind: str) -> None:
    """REPLAY-1: while a projection may still write what readers receive, nothing is promoted."""
    session = await a_session(alone, "again")
    await alone.execute("SET", session.run().projected(behind), "2-0", "EX", TTL_S)
    before = await read(alone, session)
    assert await promote(alone, [session.run("again")]) == [Promoted(Code.NOT_ENDED, LIVE_RUN)]
    assert await read(alone, session) == before


async def test_what_is_not_there_is_not_promoted(log: Server) -> None:
    """REPLAY-1: a run that never was, or whose session was erased, is refused without a key left; others continue."""
    session, erased = await a_session(log, "again"), await a_session(log, "again")
    unknown = log.keys.of("nobody")
    assert await erase(log, erased, "tenant")
    runs = [unknown.run(), erased.run("again"), session.run("other"), session.run("again"), unknown.run("again")]
    codes = [answer.code for answer in await promote(log, runs)]
    assert codes == [Code.GONE, Code.GONE, Code.GONE, Code.OK, Code.GONE]
    assert await remains(log, "nobody") == []
    assert await remains(log, erased.session_id) == [erased.partition.erased]
    assert await promoted_runs(log, [unknown, erased, session]) == [LIVE_RUN, LIVE_RUN, "again"]


async def test_a_late_projection_leaves_the_promoted_run_alone(alone: Server) -> None:
    """REPLAY-1: projections that look at either run once more change nothing of what readers receive."""
    session = await a_session(alone, "again")
    await switched(alone, session.run("again"))
    before = await everything(alone, session, (LIVE_RUN, "again"))
    await project(alone, session.run(), session.run("again"))
    assert await read(alone, session) == before["again"]
    assert await everything(alone, session, (LIVE_RUN, "again")) == before


async def test_a_promotion_prolongs_nothing(log: Server) -> None:
    """REPLAY-1, STITCH-5: every key expires, a copy when the run's own does, the live run's when it did before."""
    session = await a_session(log, "again")
    again = session.run("again")
    for key in (again.list, again.document, again.view):
        await log.execute("EXPIRE", key, 300)
    for key in reader_keys(session):
        await log.execute("EXPIRE", key, 200)
    await switched(log, again)

    async def lives(*keys: str) -> set[bool]:
        return {lowest < await log.execute("TTL", key) <= highest for key in keys}

    lowest, highest = 200, 300
    assert await lives(*reader_keys(session), session.promoted) == {True}
    lowest, highest = 100, 200
    assert await lives(session.live_list, session.live_document, session.live_view) == {True}
    await switched(log, session.run())
    assert await lives(*reader_keys(session)) == {True}
    assert await without_ttl(log, session.session_id) == []


async def test_erasing_takes_every_run(log: Server) -> None:
    """REPLAY-1, STITCH-5: of a session with a promoted replay nothing is left but its id once it is erased."""
    session = await a_session(log, "again", "third")
    await switched(log, session.run("again"))
    assert await erase(log, session, "tenant")
    assert await remains(log, session.session_id, "says") == [session.partition.erased]


async def test_a_full_redis_refuses_all_of_a_promotion(alone: Server, standalone: servers.Server) -> None:
    """REPLAY-1: without memory for the copies nothing is moved, and it can be tried again."""
    session = await a_session(alone, "again")
    before = await read(alone, session)
    [node] = standalone.nodes
    node.client.config_set("maxmemory", 1)
    with pytest.raises(LogFullError):
        await promote(alone, [session.run("again")])
    node.client.config_set("maxmemory", 0)
    assert await read(alone, session) == before
    assert await switched(alone, session.run("again")) == [LIVE_RUN]


async def test_a_live_run_that_has_expired_gives_way(alone: Server) -> None:
    """REPLAY-1: a replay can be promoted when the live run is gone, and cannot be undone then."""
    session = await a_session(alone, "again")
    live = session.run()
    positions = map(live.projected, ("lists", "sessions"))
    await alone.execute("DEL", *reader_keys(session), live.transcript, *positions)
    await switched(alone, session.run("again"))
    assert await read(alone, session) == await own(alone, session.run("again"))
    assert await promote(alone, [live]) == [Promoted(Code.GONE, LIVE_RUN)]
    assert await read(alone, session) == await own(alone, session.run("again"))


async def test_facts_are_not_touched(alone: Server) -> None:
    """REPLAY-1: no fact, position or feed of any run changes by a promotion."""
    session = await a_session(alone, "again")
    untouched = [
        key for run in (session.run(), session.run("again"))
        for key in (run.transcript, run.feed, run.status, *map(run.projected, ("lists", "feeds", "sessions", "status")))
    ]
    before = [await alone.execute("DUMP", key) for key in untouched]
    await switched(alone, session.run("again"))
    await switched(alone, session.run())
    assert [await alone.execute("DUMP", key) for key in untouched] == before


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_erasing_ends_replays_on_their_queues(deployment: Deployment, is_claimed: bool) -> None:  # noqa: FBT001
    """REPLAY-1, STITCH-5: a replay that waits, or is worked on, is off its queue once its session is erased."""
    session = await deployment.spoken(Story(talk()))
    assert await start_replay(deployment, session) == Code.OK
    offers = session.keys.partition.queue(QUEUE)
    if is_claimed:
        claims = Claims(deployment.server, "w", lease_ms=5_000, session_ttl_s=TTL_S, queue=QUEUE)
        await claims.ensure_groups()
        assert len(await claims.take_new([session.keys.partition], 1)) == 1
    assert await erase(deployment.server, session.keys, "")
    assert await deployment.server.execute("XLEN", offers.sessions) == 0
    assert await deployment.server.execute("HLEN", offers.entries) == 0
    assert await remains(deployment.server, session.keys.session_id) == [session.keys.partition.erased]
