"""Stalls of Redis, after which every claim looks abandoned while its renewal still lies in a queue."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from eventlog.log import Claim
from eventlog.redis.server import Call, connect
from eventlog.work.claims import Claims
from tests.integration.eventlog.stage import PARTITIONS, TTL_S, Stage
from tests.support.servers import Server
from tests.support.waiting import eventually_async

LEASE_MS = 600
# Longer than the lease, so that at its end every claim is idle for a lease.
STALL_MS = 900


async def claims_of(stage: Stage, server: Server) -> tuple[Claims, list[Claim], Claims]:
    """A live worker, its claims, and another one on connections of its own; all connections are open."""
    await asyncio.gather(*(stage.opened(f"s{number}") for number in range(8)))
    a = Claims(stage.server, "a", lease_ms=LEASE_MS, session_ttl_s=TTL_S)
    b = Claims(await connect(server.url, partitions=PARTITIONS), "b", lease_ms=LEASE_MS, session_ttl_s=TTL_S)
    await a.ensure_groups()
    mine = await a.take_new(stage.server.keys.partitions, 100)
    assert await b.take_over(100) == []
    assert await a.renew(mine) == []
    return a, mine, b


async def test_a_take_over_sent_during_a_stall_steals_nothing(stage: Stage, server: Server) -> None:
    """A takeover queued before a holder's renewal when a stall ends leaves the holder its claims (SAFE-1)."""
    a, mine, b = await claims_of(stage, server)
    pause_scripts(server)
    taking = asyncio.create_task(b.take_over(100))
    await eventually_async(lambda: waiting(server) > 0)
    before = waiting(server)
    renewing = asyncio.create_task(a.renew(mine))
    await eventually_async(lambda: waiting(server) > before)
    assert await taking == []
    assert await renewing == []
    await b.server.close()


async def test_a_take_over_overtaken_by_a_stall_steals_nothing(
    stage: Stage, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stall between the look for abandoned runs and the claim on them lets that claim expire (SAFE-1)."""
    a, mine, b = await claims_of(stage, server)
    run_many, asked = b.server.run_many, list[str]()

    async def stalled(calls: Sequence[Call]) -> list[Any]:
        asked.append(calls[0].script.name)
        if asked[-1] == "take_over_claims":
            server.pause_ms(LEASE_MS // 2)
        return await run_many(calls)

    for claim in mine:
        await stage.age(claim, LEASE_MS)
    monkeypatch.setattr(b.server, "run_many", stalled)

    async def look() -> bool:
        assert await b.take_over(100) == []
        return "take_over_claims" in asked  # a look that took long is not followed by a claim at all

    await eventually_async(look)
    assert await a.renew(mine) == []
    await b.server.close()


async def test_dead_workers_claims_are_taken_over_after_a_stall(stage: Stage, server: Server) -> None:
    """After a stall all claims that no worker renews any more are taken over all the same."""
    _, mine, b = await claims_of(stage, server)
    server.pause_ms(LEASE_MS // 2)
    taken: list[Claim] = []

    async def look() -> bool:
        taken.extend(await b.take_over(100))
        return len(taken) == len(mine)

    await eventually_async(look)
    assert {claim.keys.member for claim in taken} == {claim.keys.member for claim in mine}
    await b.server.close()


def pause_scripts(server: Server) -> None:
    """Stall whatever may write, as scripts are taken to, so that looking at the stall itself isn't stalled."""
    for node in server.nodes:
        node.client.client_pause(STALL_MS, all=False)


def waiting(server: Server) -> int:
    """How many clients wait for the end of a stall."""
    return sum("b" in client["flags"] for node in server.nodes for client in node.client.client_list())
