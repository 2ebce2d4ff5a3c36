"""A Redis whose memory is full takes nothing in and can be drained."""

from collections.abc import AsyncIterator, Iterator

import pytest

from eventlog.codec import encode
from eventlog.events import Finalized
from eventlog.log import Append, Code, Committed, LogFullError
from eventlog.positions import SEALED, Position
from eventlog.redis.server import connect
from eventlog.work.claims import LoadedRun, ReofferPage
from tests.integration.eventlog.stage import PARTITIONS, TOKEN, Stage, chunk, commit, ended, final, started
from tests.support import servers
from tests.support.servers import Server


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A server whose memory a test limits."""
    with servers.standalone() as server:
        yield server


@pytest.fixture
async def stage(small: Server) -> AsyncIterator[Stage]:
    """The log on a server that isn't full yet."""
    limit(small, 0)
    small.flush()
    connected = await connect(small.url, partitions=PARTITIONS)
    yield Stage(connected)
    await connected.close()


def limit(server: Server, maximum_bytes: int) -> None:
    """Limits the server's memory; 0 is no limit, 1 less than it takes already."""
    server.nodes[0].command("CONFIG SET", "maxmemory", maximum_bytes)


async def test_a_full_log_takes_nothing_in(stage: Stage, small: Server) -> None:
    """When the memory is full, openings and appends are refused as a whole, and taken again once memory is free."""
    keys, head = await stage.spoken()
    other, other_head = await stage.spoken("s2")
    before = await stage.snapshot(keys), await stage.snapshot(other)
    flush: list[Append] = [chunk(keys, head), chunk(other, other_head)]
    limit(small, 1)
    with pytest.raises(LogFullError):
        await stage.log.append(flush)
    with pytest.raises(LogFullError):
        await stage.log.append([Append(keys, 1, head, head.control(), encode(Finalized()), is_audio=False)])
    with pytest.raises(LogFullError):
        await stage.log.open(stage.keys("s3"), started("s3"), TOKEN)
    assert (await stage.snapshot(keys), await stage.snapshot(other)) == before
    new = stage.keys("s3")
    assert await stage.do("EXISTS", new.session, new.audio, new.run().transcript) == 0
    limit(small, 0)
    assert [answer.code for answer in await stage.log.append(flush)] == [Code.OK, Code.OK]


async def test_a_full_log_is_read_and_drained(stage: Stage, small: Server) -> None:
    """With full memory every draining call works: read, claim, renew, commit, trim, seal, take over, hand over, end."""
    keys, head = await stage.spoken(chunks=100)
    a, b = await stage.worker("a"), await stage.worker("b")
    limit(small, 1)
    claim = await stage.claimed(a)
    assert len(await stage.entries(keys)) == 101
    assert (await a.load([claim]))[0].code == Code.OK
    assert (await stage.commit(commit(claim, 1, final(0), trim_before=head))).code == Code.OK
    assert len(await stage.entries(keys)) < 10
    await stage.log.touch([(keys, 1)])
    assert await stage.log.seal(keys, "idle") == Code.OK
    await stage.age(claim)
    [claim] = await b.take_over(10)
    assert (await b.load([claim]))[0].checkpoint.suspicion == 1
    assert await b.renew([claim]) == []
    await b.hand_over([claim])
    claim = await stage.claimed(a)
    assert await stage.commit(commit(claim, 2, ended(1), ends=True)) == Committed(Code.OK, "a", 2)
    assert (await stage.log.facts(keys.run(), Position(1, 0)))[-1][0] == SEALED
    await a.delete_consumer()


async def test_a_poisoned_run_leaves_a_full_log(stage: Stage, small: Server) -> None:
    """With full memory a missing entry is offered again and a poisoned run quarantined."""
    keys = await stage.opened()
    a = await stage.worker("a")
    limit(small, 1)
    claim = await stage.claimed(a)
    await stage.do("XDEL", keys.partition.sessions, claim.entry_id)
    assert await a.reoffer_missing(keys.partition) == ReofferPage("0", ["s1 live"], 1)
    assert await a.quarantine(await stage.claimed(a), "poison") == Code.OK
    await a.delete_silent_consumers(-1)


async def test_an_erased_run_leaves_a_full_log(stage: Stage, small: Server) -> None:
    """With full memory the entry of a run whose session was erased is removed."""
    keys = await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    limit(small, 1)
    await stage.do("DEL", keys.session)
    assert await a.load([claim]) == [LoadedRun(Code.GONE)]


async def test_a_worker_can_start_on_a_full_log(stage: Stage, small: Server) -> None:
    """With full memory, and no script known to Redis, a process that comes to drain it connects, joins and commits."""
    await stage.opened()
    await stage.worker("before")
    limit(small, 1)
    await stage.do("SCRIPT", "FLUSH")
    server = await connect(small.url, partitions=PARTITIONS)
    newcomer = Stage(server)
    claim = await newcomer.claimed(await newcomer.worker("a"))
    assert (await newcomer.commit(commit(claim, 1, final(0)))).code == Code.OK
    await server.close()
