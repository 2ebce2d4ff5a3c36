"""Rebuilds while sessions are spoken, recognised and projected: in the end all is as without them."""

import asyncio
from collections.abc import Sequence

import numpy as np

from eventlog.keys import READ_MODELS
from projections.runner import ProjectionRunner
from tests.integration.rebuild.read_models import (
    TTL_S,
    no_leftovers,
    parts_of,
    project,
    projection,
    rebuild,
    remembered,
)
from tests.support.deployment import Deployment, Session
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

SESSIONS = 4
# Entries of 100 ms in one append: a session is in the log after some twenty of them, with rebuilds all along.
PIECE = 8
# Where in the story a final must have been stated: a sentence is over three seconds before.
FINAL_AFTER = (48, 80, 120)


async def spoken(sessions: Sequence[Session]) -> None:
    """Sessions whose words come bit by bit, each time once some final came of the ones before."""
    finals = 0
    for first in range(0, len(sessions[0].entries), PIECE):
        await asyncio.gather(*(one.say(one.entries[first : first + PIECE]) for one in sessions))
        if first in FINAL_AFTER:
            finals += 1
            await eventually_async(lambda finals=finals: have_finals(sessions, finals))  # type: ignore[misc]


async def have_finals(sessions: Sequence[Session], count: int) -> bool:
    """Whether each has so many."""
    return min([await session.finals() for session in sessions]) >= count


async def rebuilding(deployment: Deployment, stop: asyncio.Event) -> int:
    """Rebuild each read model in turn, again and again; returns how many runs were put in place."""
    server, count = await deployment.connect(), 0
    while not stop.is_set():
        for name in READ_MODELS:
            report = await rebuild(server, name)
            assert (report.failed, report.differing) == ([], [])
            count += report.runs
    return count


async def test_rebuilding_under_traffic_changes_nothing(deployment: Deployment) -> None:
    """REPLAY-2: rebuilt all the time while workers commit and projections apply, read models equal undisturbed ones."""
    story = Story(np.tile(talk(), (2, 1)))
    await deployment.started()
    runner = ProjectionRunner(
        await deployment.connect(), [projection(name) for name in READ_MODELS], "live", session_ttl_s=TTL_S
    )
    await runner.start()
    stop = asyncio.Event()
    rebuilder = asyncio.create_task(rebuilding(deployment, stop))
    sessions = [await deployment.open(story) for _ in range(SESSIONS)]
    await spoken(sessions)
    await deployment.ended(*sessions)
    server = deployment.server
    for session in sessions:
        await eventually_async(lambda session=session: is_projected(deployment, session))  # type: ignore[misc]
    stop.set()
    assert await rebuilder >= SESSIONS
    await runner.stop()
    runs = [session.run for session in sessions]
    found = await read_models(deployment, sessions)
    await server.execute_many([("DEL", key) for run in runs for name in READ_MODELS for key in parts_of(run, name)])
    await project(server, runs)
    assert found == await read_models(deployment, sessions)
    assert await no_leftovers(server, *runs)


async def is_projected(deployment: Deployment, session: Session) -> bool:
    """Whether each read model has the session's end."""
    server, run = deployment.server, session.run
    [last] = await server.execute("XREVRANGE", run.transcript, "+", "-", "COUNT", 1)
    return await server.execute_many([("GET", run.projected(name)) for name in READ_MODELS]) == [last[0]] * 4


async def read_models(deployment: Deployment, sessions: list[Session]) -> dict[str, object]:
    """The content of each key of the read models, and the members of the listings."""
    content = await remembered(deployment.server)
    partitions = [session.keys.partition for session in sessions]
    listings = {key for partition in partitions for key in (partition.open_runs, partition.ended_runs)}
    keys = {key for session in sessions for name in READ_MODELS for key in parts_of(session.run, name)}
    return {key: content.get(key) for key in keys | listings}
