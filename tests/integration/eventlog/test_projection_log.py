"""A projection's side of the log on real servers: every loss and race of notices, pulls and applies."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ResponseError

from eventlog.keys import RunKeys
from eventlog.log import Code
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.projection.operations import Op, add, publish, push, put, put_fields
from eventlog.projection.projection_log import Applied, Apply, ProjectionLog, trim_changes
from eventlog.redis.server import Server, connect
from tests.integration.projections.facts import a_run, checked, conversation, ended, final, notice, opened, write
from tests.support.servers import Server as TestServer

TTL_S = 1000


@pytest.fixture
async def log(server: TestServer) -> AsyncIterator[Server]:
    """A connection to an empty Redis, once single and once a cluster."""
    connected = await connect(server.url)
    yield connected
    await connected.close()


def consumer(log: Server, name: str = "c1", projection: str = "p") -> ProjectionLog:
    """One consumer of a projection."""
    return ProjectionLog(log, projection, name, session_ttl_s=TTL_S)


async def pulled(of: ProjectionLog, keys: RunKeys) -> list[str]:
    """Ids of the facts that a pull brings."""
    [found] = await of.pull([keys])
    return [str(position) for position, _ in found.facts]


async def applied(of: ProjectionLog, keys: RunKeys, expected: Position, new: Position, *ops: Op) -> Code:
    """The code that one apply answers."""
    [answer] = await of.apply([Apply(keys, expected, new, ops)])
    return answer.code


async def members(of: ProjectionLog, keys: RunKeys, **options: int | frozenset[int]) -> list[str]:
    """Members of the notices in a run's partition."""
    [news] = await of.read_notices([keys.partition], **options)  # type: ignore[arg-type]
    return [member for _, member in news.notices]


async def test_a_pull_brings_what_follows_the_position(log: Server) -> None:
    """Many runs are pulled at once, each from its own position, at most `limit` facts each."""
    one, two = a_run(log), a_run(log)
    for keys in (one, two):
        await write(log, keys, conversation(keys, 3))
    of = consumer(log)
    assert await applied(of, one, START, Position(2, 0)) == Code.OK
    found = {pull.keys.member: pull for pull in await of.pull([one, two, a_run(log)], limit=2)}
    assert found[one.member].after == Position(2, 0)
    assert [str(position) for position, _ in found[one.member].facts] == ["3-0", str(SEALED)]
    assert [str(position) for position, _ in found[two.member].facts] == ["0-1", "1-0"]
    assert await applied(of, one, Position(2, 0), SEALED) == Code.OK
    assert await pulled(of, one) == []


async def test_an_apply_made_twice_is_applied_once(log: Server) -> None:
    """A lost answer is harmless: the same apply again is stale and changes nothing."""
    keys, of = a_run(log), consumer(log)
    await write(log, keys, [opened(keys), final(0)])
    for code in (Code.OK, Code.STALE):
        assert await applied(of, keys, START, Position(1, 0), push(keys.list, b"x")) == code
    assert await log.execute("LRANGE", keys.list, 0, -1) == [b"x"]


async def test_of_racing_consumers_one_wins_each_step(log: Server) -> None:
    """Consumers that pull and apply the same run at once write each fact once, in order."""
    keys = a_run(log)
    await write(log, keys, [opened(keys), *(final(number) for number in range(40))])

    async def race(of: ProjectionLog) -> None:
        while True:
            [found] = await of.pull([keys], limit=3)
            if not found.facts:
                return
            ops = [push(keys.list, str(position).encode()) for position, _ in found.facts]
            await of.apply([Apply(keys, found.after, found.facts[-1][0], ops)])

    await asyncio.gather(*(race(consumer(log, f"c{number}")) for number in range(4)))
    listed = await log.execute("LRANGE", keys.list, 0, -1)
    assert listed == [b"0-1", *(b"%d-0" % (number + 1) for number in range(40))]


async def test_nothing_brings_an_erased_run_back(log: Server) -> None:
    """An apply for a run whose facts are gone writes nothing (STITCH-5)."""
    keys, of = a_run(log), consumer(log)
    await write(log, keys, [opened(keys)])
    await log.execute("DEL", keys.transcript)
    assert await applied(of, keys, START, OPENED, push(keys.list, b"x")) == Code.GONE
    assert await log.execute_many([("EXISTS", keys.list), ("EXISTS", keys.projected("p"))]) == [0, 0]


@pytest.mark.parametrize(
    "refused",
    [
        lambda keys: push(keys.view, b"x"),
        lambda keys: add(keys.feed, "5-0", {"event": b"x"}, most=10),
        lambda keys: Op("DEL", keys.view, ()),
    ],
    ids=["another type", "an id that is not later", "a command that is not allowed"],
)
async def test_a_refused_apply_writes_nothing(log: Server, refused: object) -> None:
    """If one operation can't be performed none is, and the position stays."""
    keys, of = a_run(log), consumer(log)
    await write(log, keys, [opened(keys)])
    await log.execute_many([("HSET", keys.view, "a", "b"), ("XADD", keys.feed, "5-0", "event", "e")])
    ops = (push(keys.list, b"x"), refused(keys))  # type: ignore[operator]
    assert await applied(of, keys, START, OPENED, *ops) == Code.MISPLACED
    assert await log.execute_many([("EXISTS", keys.list), ("EXISTS", keys.projected("p"))]) == [0, 0]


async def test_one_broken_run_leaves_the_others_alone(log: Server) -> None:
    """A run whose keys were overwritten gets an error while others of the same call are served."""
    good, bad, of = a_run(log), a_run(log), consumer(log)
    await write(log, good, [opened(good)])
    await log.execute("SET", bad.transcript, "no stream")
    found = {pull.keys.member: pull for pull in await of.pull([bad, good])}
    assert "WRONGTYPE" in found[bad.member].unreadable
    assert len(found[good.member].facts) == 1
    await log.execute("HSET", good.projected("p"), "no", "string")
    assert await of.apply([Apply(good, START, OPENED, ())]) != [Applied(Code.OK)]


async def test_every_key_that_is_written_expires(log: Server) -> None:
    """Position, read models and dead letters get the session TTL with the write (STITCH-7)."""
    keys, of = a_run(log), consumer(log)
    await write(log, keys, [opened(keys), final(0)])
    ops = [
        push(keys.list, b"x"), put(keys.document, b"d"), put_fields(keys.view, {"a": 1}),
        add(keys.feed, "1-0", {"event": b"e"}, most=10), of.dead_letter(keys, OPENED, "reason"),
        publish(keys.partition.feed_channel, b"m"),
    ]
    assert await applied(of, keys, START, Position(1, 0), *ops) == Code.OK
    written = [keys.projected("p"), *(op.key for op in ops[:-1])]
    ttls = await log.execute_many([("TTL", key) for key in written])
    assert all(TTL_S - 10 <= ttl <= TTL_S for ttl in ttls), dict(zip(written, ttls, strict=True))


async def test_a_full_memory_does_not_stop_projections(log: Server, server: TestServer) -> None:
    """Past maxmemory notices are still read and read models still written, so that the log can drain."""
    keys, of = a_run(log), consumer(log)
    await write(log, keys, [opened(keys)])
    try:
        for node in server.nodes:
            node.client.config_set("maxmemory", 1)
        assert await members(of, keys) == [keys.member]
        assert await pulled(of, keys) == ["0-1"]
        assert await applied(of, keys, START, OPENED, push(keys.list, b"x")) == Code.OK
        assert await trim_changes(log, [keys.partition], most=10) == {}
    finally:
        for node in server.nodes:
            node.client.config_set("maxmemory", 0)


async def test_a_notice_goes_to_one_consumer_and_comes_again_until_acked(log: Server) -> None:
    """New notices are shared out; unacked ones come again to their consumer, and to others once left for long."""
    keys, one, two = a_run(log), consumer(log, "c1"), consumer(log, "c2")
    await write(log, keys, [opened(keys)])
    assert await members(one, keys) == [keys.member]
    assert await members(two, keys) == []
    assert await members(one, keys) == []
    assert await members(one, keys, own=frozenset({keys.partition.number})) == [keys.member]
    assert await members(two, keys, idle_ms=60_000) == []
    [news] = await two.read_notices([keys.partition], idle_ms=0)
    assert [member for _, member in news.notices] == [keys.member]
    await two.ack({keys.partition: [entry_id for entry_id, _ in news.notices]})
    for of in (one, two):
        assert await members(of, keys, own=frozenset({keys.partition.number}), idle_ms=0) == []


async def test_a_projection_without_group_is_ordered_to_walk(log: Server) -> None:
    """A new projection, or one whose `changes` vanished, learns of every run by the index."""
    keys, of = a_run(log), consumer(log)
    await write(log, keys, [opened(keys)], with_notice=False)
    [news] = await of.read_notices([keys.partition])
    assert news.walk
    assert [run.member async for runs in of.walk(keys.partition) for run in runs] == [keys.member]
    await of.finish_walk(keys.partition, news.walk)
    assert not (await of.read_notices([keys.partition]))[0].walk
    await log.execute("DEL", keys.partition.changes)
    assert (await of.read_notices([keys.partition]))[0].walk


async def test_an_order_to_walk_that_comes_during_a_walk_is_kept(log: Server) -> None:
    """Finishing a walk takes back only the order that it was begun for."""
    keys, of = a_run(log), consumer(log)
    [news] = await of.read_notices([keys.partition])
    await log.execute("HSET", keys.partition.walks, "p", "later")
    await of.finish_walk(keys.partition, news.walk)
    assert (await of.read_notices([keys.partition]))[0].walk == "later"


async def test_trimming_keeps_needed_notices(log: Server) -> None:
    """Notices below every projection's oldest unacked one are freed, and no others."""
    keys, quick, slow = a_run(log), consumer(log), consumer(log, projection="slow")
    for of in (quick, slow):
        await of.read_notices([keys.partition])
    await checked_notices(log, keys, 10)
    for of, count in ((quick, 10), (slow, 4)):
        [news] = await of.read_notices([keys.partition])
        await of.ack({keys.partition: [entry_id for entry_id, _ in news.notices[:count]]})
    assert await trim_changes(log, [keys.partition], most=100) == {}
    assert await log.execute("XLEN", keys.partition.changes) == 6
    again = await members(slow, keys, own=frozenset({keys.partition.number}))
    assert again == [keys.member] * 6


async def test_a_projection_overrun_by_the_bound_walks(log: Server) -> None:
    """A bound on notices costs a projection that fell behind a walk, and one that kept up nothing."""
    keys, quick, slow = a_run(log), consumer(log), consumer(log, projection="slow")
    for of in (quick, slow):
        [news] = await of.read_notices([keys.partition])
        await of.finish_walk(keys.partition, news.walk)
    await checked_notices(log, keys, 10)
    [news] = await quick.read_notices([keys.partition])
    await quick.ack({keys.partition: [entry_id for entry_id, _ in news.notices]})
    await checked_notices(log, keys, 2)
    assert await trim_changes(log, [keys.partition], most=2) == {"slow": 1}
    [behind] = await slow.read_notices([keys.partition])
    assert behind.walk
    assert len(behind.notices) == 2


async def test_trimmed_unacked_notices_end_quietly(log: Server) -> None:
    """Notices that were freed while a consumer held them come back without a run and can be acked."""
    keys, of = a_run(log), consumer(log)
    await checked_notices(log, keys, 3)
    await of.read_notices([keys.partition])
    assert await trim_changes(log, [keys.partition], most=1) == {"p": 1}
    number = keys.partition.number
    [news] = await of.read_notices([keys.partition], own=frozenset({number}))
    assert [member for _, member in news.notices] == ["", "", keys.member]
    await of.ack({keys.partition: [entry_id for entry_id, _ in news.notices]})
    assert await members(of, keys, own=frozenset({number}), idle_ms=0) == []


async def test_a_partition_that_is_broken_leaves_the_others_alone(log: Server) -> None:
    """A script that fails on one partition's keys fails for that partition only."""
    good, bad = log.keys.partitions[0], log.keys.partitions[1]
    await log.execute("SET", bad.changes, "no stream")
    assert [news.partition for news in await consumer(log).read_notices([bad, good])] == [good]


async def test_a_bad_answer_to_an_ack_raises(log: Server) -> None:
    """An ack that Redis refuses raises instead of passing for done."""
    partition = log.keys.partitions[0]
    await log.execute("SET", partition.changes, "no stream")
    with pytest.raises(ResponseError):
        await consumer(log).ack({partition: [b"1-0"]})


async def test_the_end_can_be_pulled_and_passed(log: Server) -> None:
    """The last fact has the largest id; a pull behind it finds nothing and doesn't fail."""
    keys, of = a_run(log), consumer(log)
    await write(log, keys, [opened(keys), ended(0)])
    assert await pulled(of, keys) == ["0-1", str(SEALED)]
    assert await applied(of, keys, START, SEALED) == Code.OK
    assert await pulled(of, keys) == []


async def checked_notices(log: Server, keys: RunKeys, count: int) -> None:
    """Adds notices."""
    checked(await log.execute_many([command for _ in range(count) for command in notice(keys)]))
