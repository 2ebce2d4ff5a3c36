import asyncio

import pytest

from eventlog.log import Code
from eventlog.positions import OPENED, START, Position
from eventlog.projection.dead_letters import (
    ABSENT,
    DROPPED,
    MOVED,
    DeadLetter,
    dead_letter_op,
    find_dead_letter,
    finish_redrives,
    read_redriven,
    redrive,
)
from eventlog.projection.projection_log import Apply, ProjectionLog
from eventlog.projection.sink_state import FREED, REDRIVEN, PartitionClaims, wakeup_message
from eventlog.redis.server import Server
from eventlog.redis.wakeups import Wakeups
from tests.integration.forwarding.forwarders import TTL_S, claim, dead_letters_of, holders
from tests.integration.projections.facts import a_run, conversation, opened, write
from tests.support.servers import Server as TestServer
from tests.support.waiting import eventually_async

SINK = "webhooks"


async def a_dead_letter(log: Server) -> DeadLetter:
    """A dead letter of a run that has facts."""
    run = a_run(log)
    await write(log, run, conversation(run, 1))
    dead_letter = DeadLetter(
        SINK, run.partition, "", run, str(Position(1, 0)), "refused", "c1", "TranscriptUtterance", "an-id", 3,
        1_700_000_000_000,
    )  # fmt: skip
    projection = ProjectionLog(log, SINK, "c1", session_ttl_s=TTL_S)
    [applied] = await projection.apply([Apply(run, START, OPENED, [dead_letter_op(dead_letter)])])
    assert applied.code == Code.OK
    return next(dead_letter for dead_letter in await dead_letters_of(log) if dead_letter.keys.member == run.member)


async def test_a_partition_has_one_forwarder(log: Server) -> None:
    """The first consumer that asks has a partition, and the others learn its name."""
    assert await claim(log, "a", [0, 1]) == ["a", "a"]
    assert await claim(log, "b", [1, 2]) == ["a", "b"]
    assert (await holders(log))[:4] == ["a", "a", "b", ""]


async def test_racing_forwarders_share_without_overlap(log: Server) -> None:
    """Of many that ask for all partitions at once each partition goes to one."""
    every = range(len(log.keys.partitions))
    answers = await asyncio.gather(*(claim(log, f"c{number}", every) for number in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert "" not in answers[0]


async def test_a_claim_lasts_as_long_as_its_lease(log: Server) -> None:
    """A claim that isn't renewed runs out, and a renewal gives it a whole lease again."""
    await claim(log, "a", [0, 1], lease_ms=60_000)
    await claim(log, "a", [0], lease_ms=50)
    await eventually_async(lambda: _is_free(log, 0))
    assert (await holders(log))[1] == "a"
    assert await claim(log, "b", [0, 1]) == ["b", "a"]


async def _is_free(log: Server, number: int) -> bool:
    return (await holders(log))[number] == ""


async def test_releasing_wakes_and_leaves_others_alone(log: Server) -> None:
    """A partition that its holder releases is free at once and wakes the others; no consumer releases another's."""
    received: list[tuple[str, bytes]] = []
    channel = log.keys.partitions[0].changes_wakeup
    wakeups = Wakeups(log, [channel], on_message=lambda *one: received.append(one), on_reset=lambda: None)
    await wakeups.start()
    await wakeups.listening()
    await claim(log, "a", [0])
    partition = log.keys.partitions[0]
    for consumer, left in (("b", "a"), ("a", "")):
        found = await PartitionClaims(log, SINK, consumer, lease_ms=1000).hold({partition: False})
        assert found == {partition: left}
    await eventually_async(lambda: received == [(channel, wakeup_message(FREED, SINK).encode())])
    await wakeups.stop()


async def test_a_broken_claim_belongs_to_no_consumer_and_stops_no_other(log: Server) -> None:
    """A key of another type under a claim's name keeps that partition alone from being forwarded."""
    await log.execute("RPUSH", log.keys.partitions[0].forwarder(SINK), "x")
    first, second = await claim(log, "a", [0, 1])
    assert first not in ("", "a")
    assert second == "a"


async def test_claims_can_be_renewed_while_memory_is_full(log: Server, server: TestServer) -> None:
    """A server that takes no more data still lets forwarders work, whose progress frees some."""
    for node in server.nodes:
        node.client.config_set("maxmemory", 1)
    assert await claim(log, "a", [0]) == ["a"]


async def test_a_dead_letter_is_moved_to_be_sent_once_more(log: Server) -> None:
    """A redriven dead letter is in one place only, unchanged, and its forwarder is woken."""
    dead_letter = await a_dead_letter(log)
    received: list[bytes] = []
    wakeups = Wakeups(
        log, [dead_letter.partition.changes_wakeup],
        on_message=lambda _, text: received.append(text), on_reset=lambda: None,
    )  # fmt: skip
    await wakeups.start()
    await wakeups.listening()
    assert await redrive(log, [dead_letter]) == [MOVED]
    assert await redrive(log, [dead_letter]) == [ABSENT]
    assert await dead_letters_of(log) == []
    [moved] = await read_redriven(log, SINK, log.keys.partitions, 10)
    assert moved._replace(entry_id="", keys=dead_letter.keys) == dead_letter._replace(entry_id="")
    assert moved.keys.member == dead_letter.keys.member
    assert 0 < await log.execute("TTL", dead_letter.partition.redriven(SINK)) <= TTL_S
    await eventually_async(lambda: wakeup_message(REDRIVEN, SINK).encode() in received)
    await wakeups.stop()


async def test_a_dead_letter_of_an_erased_session_is_dropped(log: Server) -> None:
    """A letter whose facts are gone can't be sent, and goes away when that is asked for (STITCH-5)."""
    gone, there = await a_dead_letter(log), await a_dead_letter(log)
    await log.execute("DEL", gone.keys.transcript)
    assert await redrive(log, [gone, there]) == [DROPPED, MOVED]
    assert await dead_letters_of(log) == []


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_redriven_dead_letter_that_fails_comes_back_unless_erased(log: Server, *, is_there: bool) -> None:
    """A redriven dead letter comes back with its new reason, but never after its session was erased (STITCH-5)."""
    dead_letter = await a_dead_letter(log)
    await redrive(log, [dead_letter])
    [moved] = await read_redriven(log, SINK, log.keys.partitions, 10)
    if not is_there:
        await log.execute("DEL", dead_letter.keys.transcript)
    again = moved._replace(reason="again", attempts=9, at_ms=1_800_000_000_000)
    for _ in range(2):  # an answer may have been lost
        await finish_redrives(log, [again], consumer="c2", ttl_s=TTL_S)
    assert await read_redriven(log, SINK, log.keys.partitions, 10) == []
    found = await dead_letters_of(log)
    assert [(one.reason, one.attempts, one.consumer, one.at_ms) for one in found] == (
        [("again", 9, "c2", 1_800_000_000_000)] if is_there else []
    )
    assert 0 < await log.execute("TTL", dead_letter.partition.dead_letters(SINK)) <= TTL_S or not is_there


async def test_a_dead_letter_is_found_by_its_id(log: Server) -> None:
    """A letter's id names projection, partition and entry, and nothing else is found by it."""
    dead_letter = await a_dead_letter(log)
    projection, number, entry_id = dead_letter.id.split(":")
    found = await find_dead_letter(log, projection, int(number), entry_id)
    assert found is not None
    assert (found.id, found.keys.member) == (dead_letter.id, dead_letter.keys.member)
    assert await find_dead_letter(log, projection, int(number), "1-1") is None
    assert await find_dead_letter(log, projection, 4000, entry_id) is None


async def test_dead_letters_of_facts_are_listed_too(log: Server) -> None:
    """What a projection writes of a fact that it couldn't apply is listed, without an event."""
    keys = a_run(log)
    await write(log, keys, [opened(keys)])
    lists = ProjectionLog(log, "lists", "c1", session_ttl_s=TTL_S)
    await lists.apply([Apply(keys, START, OPENED, [lists.dead_letter(keys, OPENED, "undecodable")])])
    [dead_letter] = await dead_letters_of(log, "lists")
    assert (dead_letter.reason, dead_letter.kind) == ("undecodable", "")
    assert (dead_letter.event_id, dead_letter.attempts) == ("", 0)
    assert dead_letter.at_ms > 1_700_000_000_000
