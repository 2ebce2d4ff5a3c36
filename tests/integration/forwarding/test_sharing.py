"""Several forwarders of one sink: partitions are shared, handed over, and left alone under a stale claim."""

from eventlog.keys import RunKeys
from eventlog.projection.projection_log import ProjectionLog
from eventlog.projection.sink_state import PartitionClaims
from eventlog.redis.server import Server
from eventlog.work import heartbeats
from projections.forwarding.forwarder import Forwarder, Terms
from projections.forwarding.partition_assignment import PartitionAssignment
from tests.integration.forwarding.forwarders import (
    FINALS,
    PARTITIONS,
    TTL_S,
    WAIT_S,
    claim,
    conversations,
    event_positions,
    forwarding,
    holders,
    runner_of,
    shares,
)
from tests.integration.forwarding.sinks import Recorder
from tests.integration.projections.facts import a_run, conversation, write
from tests.support.waiting import eventually_async

LONG_LEASE_MS = 60_000


async def test_two_forwarders_share_the_partitions(log: Server) -> None:
    """One that joins gets its share within a lease, both send in order, and what one leaves the other has at once."""
    one, other = Recorder(), Recorder()
    async with forwarding(log, one, "one"):
        await eventually_async(lambda: shares(log, {"one": PARTITIONS}), WAIT_S)
        async with forwarding(log, other, "other"):
            await eventually_async(lambda: shares(log, {"one": PARTITIONS // 2, "other": PARTITIONS // 2}), WAIT_S)
            runs = await conversations(log, 20)
            await eventually_async(lambda: len(one.taken) + len(other.taken) >= 20 * (FINALS + 1), WAIT_S)
            assert one.taken
            assert other.taken
        await eventually_async(lambda: shares(log, {"one": PARTITIONS}), WAIT_S)
        for keys in runs:
            assert one.of(keys.session_id) + other.of(keys.session_id) == event_positions(FINALS)


def a_run_in(log: Server, number: int) -> RunKeys:
    """The keys of a run of that partition."""
    return next(keys for keys in iter(lambda: a_run(log), None) if keys.partition.number == number)


async def test_a_partition_in_use_is_given_up_when_it_is_idle(single: Server) -> None:
    """A forwarder gives up no partition while an event of it is under way, and does as soon as it isn't."""
    one, other = Recorder(), Recorder()
    one.most_calls, one.most_events = 64, 1
    one.gate.clear()
    async with forwarding(single, one, "one") as first:
        runs = [a_run_in(single, number) for number in range(PARTITIONS) for _ in range(7)]
        for keys in runs:
            await write(single, keys, conversation(keys, FINALS))
        await eventually_async(lambda: one.under_way == len(runs), WAIT_S)
        async with forwarding(single, other, "other"):
            await eventually_async(lambda: len(first.assignment.releasing) == PARTITIONS // 2, WAIT_S)
            assert (await holders(single)).count("one") == PARTITIONS
            one.gate.set()
            await eventually_async(lambda: shares(single, {"one": 4, "other": 4}), WAIT_S)
            await eventually_async(lambda: len(one.taken) + len(other.taken) >= len(runs) * (FINALS + 1), WAIT_S)
    for keys in runs:
        assert one.of(keys.session_id) + other.of(keys.session_id) == event_positions(FINALS)


async def test_stopping_gives_up_everything_at_once(single: Server) -> None:
    """A forwarder that stops finishes its deliveries, frees its partitions and is counted no longer."""
    sink = Recorder()
    runner = runner_of(single, sink, lease_ms=60_000)
    await runner.start()
    await eventually_async(lambda: shares(single, {"c1": PARTITIONS}), WAIT_S)
    await runner.stop()
    assert set(await holders(single)) == {""}
    assert sink.stops == 1
    async with forwarding(single, Recorder(), "c2", lease_ms=60_000):
        await eventually_async(lambda: shares(single, {"c2": PARTITIONS}), WAIT_S)


async def test_start_races_stop(single: Server) -> None:
    """A runner may be stopped at any moment after its start, and frees its partitions and its sink."""
    for rounds in range(15):
        sink = Recorder()
        runner = runner_of(single, sink, f"c{rounds}")
        await runner.start()
        for _ in range(rounds):
            await single.execute("PING")
        await runner.stop()
        assert sink.starts <= 1 <= sink.stops
    assert set(await holders(single)) == {""}


class Clock:
    """Monotonic seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


async def test_a_claim_is_trusted_for_two_thirds_of_its_lease(single: Server) -> None:
    """After a pause of more than a third of the lease, or an outage of Redis, a claim is renewed before it is used."""
    clock = Clock()
    held = PartitionAssignment(PartitionClaims(single, "webhooks", "c1", lease_ms=LONG_LEASE_MS), clock)
    partition = single.keys.partitions[0]
    assert partition not in held.sendable
    assert len((await held.rebalance({}, ()))[0]) == PARTITIONS
    assert partition in held.sendable
    clock.now_s += 39
    assert partition in held.sendable
    clock.now_s += 2
    assert partition not in held.sendable
    assert await held.rebalance({}, ()) == ([], [])
    assert partition in held.sendable
    held.expire()
    assert partition not in held.sendable


async def test_partitions_that_another_took_meanwhile_are_lost(single: Server) -> None:
    """A forwarder whose claims ran out finds at its next look what others have now, and leaves that alone."""
    held = PartitionAssignment(PartitionClaims(single, "webhooks", "c1", lease_ms=LONG_LEASE_MS), Clock())
    await held.rebalance({}, ())
    taken = single.keys.partitions[3]
    await single.execute("SET", taken.forwarder("webhooks"), "another")
    assert await held.rebalance({}, ()) == ([], [taken])
    assert taken not in held.sendable


async def test_a_partition_with_something_old_under_way_is_not_taken_again(single: Server) -> None:
    """A partition that was lost while an event of it was under way is taken again only when that is over."""
    held = PartitionAssignment(PartitionClaims(single, "webhooks", "c1", lease_ms=LONG_LEASE_MS), Clock())
    busy = single.keys.partitions[3]
    assert busy not in (await held.rebalance({}, {busy}))[0]
    assert (await held.rebalance({}, ()))[0] == [busy]


async def test_the_dead_and_the_leaving_count_no_longer(single: Server) -> None:
    """Shares go to those that sent a heartbeat within a lease and didn't say that they leave."""
    await heartbeats.write(single, "projection.webhooks", "leaving", {"leaving": True})
    await heartbeats.write(single, "projection.eventbridge", "of another sink", {})
    held = PartitionAssignment(PartitionClaims(single, "webhooks", "c1", lease_ms=LONG_LEASE_MS), Clock())
    assert len((await held.rebalance({}, ()))[0]) == PARTITIONS
    await heartbeats.write(single, "projection.webhooks", "another", {})
    assert len((await held.rebalance({}, ()))[1]) == PARTITIONS // 2
    short = PartitionAssignment(PartitionClaims(single, "webhooks", "c1", lease_ms=1), Clock())

    async def counted_out() -> bool:
        await short.rebalance({}, ())
        return len(short) == PARTITIONS

    await eventually_async(counted_out, WAIT_S)


async def test_a_forwarder_that_slept_does_no_harm(single: Server) -> None:
    """One that was stopped for longer than its lease sends nothing of what others took meanwhile, and the rest."""
    clock, sink = Clock(), Recorder()
    log = ProjectionLog(single, "webhooks", "sleeper", session_ttl_s=TTL_S)
    forwarder = Forwarder(sink, log, Terms(LONG_LEASE_MS, 600.0, TTL_S, clock=clock))
    await forwarder.start()
    await eventually_async(lambda: shares(single, {"sleeper": PARTITIONS}), WAIT_S)
    runs = [a_run(single) for _ in range(40)]
    lost = {keys.partition.number for keys in runs[:20]}
    await single.execute_many([
        ("DEL", single.keys.partitions[number].forwarder("webhooks")) for number in lost
    ])  # fmt: skip
    await claim(single, "another", sorted(lost))
    clock.now_s += 61
    for keys in runs:
        await write(single, keys, conversation(keys, FINALS))
    kept = [keys for keys in runs if keys.partition.number not in lost]

    def are_sent() -> bool:
        clock.now_s += 0.1
        forwarder.notices.wake()
        return all(sink.of(keys.session_id) == event_positions(FINALS) for keys in kept)

    await eventually_async(are_sent, WAIT_S)
    assert {single.keys.of(event.session_id).partition.number for event in sink.requests} & lost == set()
    await forwarder.stop()
