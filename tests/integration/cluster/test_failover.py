"""Failovers under traffic: the clients' messages, and the fate of acked audio."""

import asyncio
import signal
from contextlib import AsyncExitStack

from tests.e2e.deployment import RATE_HZ
from tests.integration.cluster.failovers import ClusterRoles, Pair, acked_again, held, in_thread, metric, speaker
from tests.support.servers import Server
from tests.support.waiting import eventually_async

RECOVERY_S = 10.0
"""The promised bound, from the cluster's being whole again until all sessions' audio is durable again."""

A_SECOND = RATE_HZ

MANY = (1, 4, 2)
"""A quarter of a minute: a failover and the old master's return take five seconds, more on a busy machine."""

FEW = (1, 4)


async def test_audio_lost_with_a_master_is_appended_again(complete: Server, roles: ClusterRoles) -> None:
    """SAFE-1: writes that die with a master are appended again if `fast` acked them; `wait:1` acked none."""
    strict = roles.edge(STENOLOG_DURABILITY="wait:1", STENOLOG_DURABILITY_TIMEOUT_MS="300")
    fast = roles.edge()
    async with AsyncExitStack() as stack:
        first = await speaker(strict, stack)
        pair = Pair(complete, roles.keys.of(first.session_id).session)
        second = await speaker(fast, stack, lambda one: pair.has(roles.keys.of(one).session))
        third = await speaker(fast, stack, lambda one: not pair.has(roles.keys.of(one).session))
        talks = [asyncio.create_task(held(one, MANY)) for one in (first, second, third)]
        await eventually_async(lambda: all(one.durable > A_SECOND and one.of("partial") for one in (first, second)))
        pair.part()
        before = second.durable
        await eventually_async(lambda: second.durable > before + A_SECOND)
        pair.master.process.kill()
        pair.replica.process.send_signal(signal.SIGCONT)
        await in_thread(pair.promoted)
        healed_at = await in_thread(pair.mend)  # `wait:1` acks nothing without any replica
        assert await acked_again(first, second, third) - healed_at < RECOVERY_S
        await asyncio.gather(*talks)
    assert metric(strict, "stenolog_edge_resent_entries_total") == 0
    assert metric(fast, "stenolog_edge_resent_entries_total") > 0
    assert metric(strict, "stenolog_edge_lost_samples_total") == metric(fast, "stenolog_edge_lost_samples_total") == 0


async def test_a_planned_failover_is_not_noticed(complete: Server, roles: ClusterRoles) -> None:
    """After an ordered takeover from a live master acks of both durabilities continue, and nothing is resent."""
    strict = roles.edge(STENOLOG_DURABILITY="wait:1")
    fast = roles.edge()
    async with AsyncExitStack() as stack:
        first = await speaker(strict, stack)
        pair = Pair(complete, roles.keys.of(first.session_id).session)
        second = await speaker(fast, stack, lambda one: pair.has(roles.keys.of(one).session))
        talks = [asyncio.create_task(held(one, FEW)) for one in (first, second)]
        await eventually_async(lambda: all(one.durable > A_SECOND and one.of("partial") for one in (first, second)))
        pair.replica.command("CLUSTER FAILOVER")
        healed_at = await in_thread(pair.promoted)
        assert await acked_again(first, second) - healed_at < RECOVERY_S
        await asyncio.gather(*talks)
    assert metric(strict, "stenolog_edge_resent_entries_total") == 0
    assert metric(fast, "stenolog_edge_resent_entries_total") == 0


async def test_without_its_replica_only_degrade_acks(complete: Server, roles: ClusterRoles) -> None:
    """SAFE-1: with too few replicas `block` acks nothing and `degrade` everything, with a metric; both complete."""
    wanted = {"STENOLOG_DURABILITY": "wait:1", "STENOLOG_DURABILITY_TIMEOUT_MS": "200"}
    holding = roles.edge(**wanted)
    going_on = roles.edge(**wanted, STENOLOG_DURABILITY_ON_SHORTFALL="degrade")
    async with AsyncExitStack() as stack:
        first = await speaker(holding, stack)
        pair = Pair(complete, roles.keys.of(first.session_id).session)
        second = await speaker(going_on, stack, lambda one: pair.has(roles.keys.of(one).session))
        pair.part()
        talks = [asyncio.create_task(held(one, FEW)) for one in (first, second)]
        await eventually_async(lambda: second.durable > A_SECOND and first.of("partial"))
        assert first.durable == 0
        assert metric(holding, "stenolog_edge_replica_shortfall") == 1
        assert metric(going_on, "stenolog_edge_unconfirmed_calls_total") > 0
        pair.replica.process.send_signal(signal.SIGCONT)
        await acked_again(first, second)
        await asyncio.gather(*talks)
    assert first.durable == second.durable
