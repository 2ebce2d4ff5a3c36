"""The session limit over real edges that race, and that die."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

from eventlog.keys import reservations
from tests.e2e.processes import Edge, Roles, Speaker
from tests.integration.edge.replicas import FRAME_SAMPLES
from tests.support.waiting import eventually_async

MAX_SESSIONS = 6
CLIENTS = 24
RESERVATION_S = 3


async def connected(edge: Edge) -> Speaker | None:
    """A connected client, or None if the limit refused it."""
    client = edge.client()
    await client.__aenter__()
    message = await client.next()
    if message["type"] == "session_start":
        return client
    assert message["code"] == "session_limit_exceeded"
    assert await client.closed() == 1013
    return None


def reserved(roles: Roles) -> int:
    """Valid reservations by Redis's clock."""
    seconds, microseconds = roles.redis.time()
    return int(roles.redis.zcount(reservations(), seconds * 1000 + microseconds // 1000, "+inf"))


async def test_the_limit_holds_over_edges_that_race_and_die(redis_url: str, tmp_path: Path) -> None:
    """SESS-6: racing edges never exceed the limit, and a killed edge's reservations expire."""
    limits = {"STENOLOG_MAX_SESSIONS": str(MAX_SESSIONS), "STENOLOG_RESERVATION_TTL_S": str(RESERVATION_S)}
    with Roles(redis_url, tmp_path, **limits) as roles:
        edges = roles.edges(3)
        most = 0

        async def count() -> None:
            nonlocal most
            while True:
                most = max(most, await asyncio.to_thread(reserved, roles))

        counting = asyncio.create_task(count())
        found = await asyncio.gather(*(connected(edges[number % 3]) for number in range(CLIENTS)))
        inside = {edge.port: [one for one in found if one and f":{edge.port}/" in one.url] for edge in edges}
        assert sum(map(len, inside.values())) == MAX_SESSIONS
        assert await connected(edges[0]) is None
        killed = max(edges, key=lambda edge: len(inside[edge.port]))
        remaining = [edge for edge in edges if edge is not killed]
        killed.send(signal.SIGKILL)
        died = time.monotonic()
        replacements: list[Speaker] = []

        async def is_full_again() -> bool:
            if (one := await connected(remaining[len(replacements) % 2])) is not None:
                replacements.append(one)
            return len(replacements) == len(inside[killed.port])

        await eventually_async(is_full_again, RESERVATION_S + 10)
        assert time.monotonic() - died <= RESERVATION_S + 2
        assert await connected(remaining[0]) is None
        counting.cancel()
        for client in [one for edge in remaining for one in inside[edge.port]] + replacements:
            await client.speak(1)
            await client.acked(FRAME_SAMPLES)  # still open
            await client.__aexit__()
        for client in inside[killed.port]:
            with contextlib.suppress(OSError):
                await client.__aexit__()
    assert most == MAX_SESSIONS
