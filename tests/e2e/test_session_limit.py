"""The number of sessions over real edges that race, and that die."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

from eventlog.keys import reservations
from tests.e2e.processes import Edge, Roles, Speaker
from tests.integration.edge.replicas import FRAME_SAMPLES
from tests.support.waiting import eventually_async

PLACES = 6
ASKING = 24
RESERVATION_S = 3


async def asked(edge: Edge) -> Speaker | None:
    """A connected client, or None if there was no place for it."""
    client = edge.client()
    await client.__aenter__()
    told = await client.next()
    if told["type"] == "session_start":
        return client
    assert told["code"] == "session_limit_exceeded"
    assert await client.closed() == 1013
    return None


def held(roles: Roles) -> int:
    """Places that are taken by Redis's clock."""
    seconds, microseconds = roles.redis.time()
    return int(roles.redis.zcount(reservations(), seconds * 1000 + microseconds // 1000, "+inf"))


async def test_the_limit_holds_over_edges_that_race_and_die(redis_url: str, tmp_path: Path) -> None:
    """SESS-6: racing edges never have more sessions than the limit, and a killed one's places free themselves."""
    limits = {"STENOLOG_MAX_SESSIONS": str(PLACES), "STENOLOG_RESERVATION_TTL_S": str(RESERVATION_S)}
    with Roles(redis_url, tmp_path, **limits) as roles:
        edges = [roles.edge() for _ in range(3)]
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, await asyncio.to_thread(held, roles))

        watching = asyncio.create_task(watch())
        found = await asyncio.gather(*(asked(edges[number % 3]) for number in range(ASKING)))
        inside = {edge.port: [one for one in found if one and f":{edge.port}/" in one.url] for edge in edges}
        assert sum(map(len, inside.values())) == PLACES
        assert await asked(edges[0]) is None
        dying = max(edges, key=lambda edge: len(inside[edge.port]))
        staying = [edge for edge in edges if edge is not dying]
        dying.send(signal.SIGKILL)
        died = time.monotonic()
        newcomers: list[Speaker] = []

        async def all_places_taken_again() -> bool:
            if (one := await asked(staying[len(newcomers) % 2])) is not None:
                newcomers.append(one)
            return len(newcomers) == len(inside[dying.port])

        await eventually_async(all_places_taken_again, RESERVATION_S + 10)
        assert time.monotonic() - died <= RESERVATION_S + 2
        assert await asked(staying[0]) is None
        watching.cancel()
        for client in [one for edge in staying for one in inside[edge.port]] + newcomers:
            await client.speak(1)
            await client.acked(FRAME_SAMPLES)  # still open
            await client.__aexit__()
        for client in inside[dying.port]:
            with contextlib.suppress(OSError):
                await client.__aexit__()
    assert most == PLACES
