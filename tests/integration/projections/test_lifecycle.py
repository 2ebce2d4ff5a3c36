"""Start, wait and stop of a process's projections."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from eventlog.positions import SEALED
from eventlog.projection.projection_log import RunFacts
from eventlog.redis.server import Server
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Command
from projections.runner import ProjectionRunner
from tests.integration.projections.facts import a_run, conversation, write
from tests.support.commands import TIMEOUT_S, environment
from tests.support.waiting import eventually_async

TTL_S = 1000
BROKEN_PROCESS = """
from projections.lists import Lists
from stenolog.roles import projector, runner
from stenolog.settings import load

class Broken(Lists):
    def reads(self, pulled):
        raise RuntimeError("a defect")

projector._READ_MODELS["lists"] = lambda _: Broken()
runner.run("projector", load(projections=("lists",)), projector.serve_projections)
"""


class Broken(Lists):
    """A projection with a defect outside its fold."""

    def reads(self, pulled: RunFacts) -> Sequence[Command]:
        """Fails at any facts."""
        raise RuntimeError(f"a defect at {len(pulled.facts)} facts")


async def test_starting_races_stopping(single: Server) -> None:
    """Starting and stopping at once, in any order, leaves no task behind."""
    before = asyncio.all_tasks()
    calls: list[Callable[[ProjectionRunner], object]] = [ProjectionRunner.start, ProjectionRunner.stop]
    for order in (calls, calls[::-1]):
        runner = ProjectionRunner(single, [Lists(), Feeds()], "c", session_ttl_s=TTL_S)
        await asyncio.gather(*(call(runner) for call in order * 2))  # type: ignore[call-overload]
        await runner.stop()
        await runner.wait()
    assert asyncio.all_tasks() == before


async def test_a_defect_outside_a_fold_ends_the_service(single: Server) -> None:
    """A projector that fails at a round ends `wait` with its error, and the others finish theirs."""
    keys = a_run(single)
    runner = ProjectionRunner(single, [Broken(), Feeds()], "c", session_ttl_s=TTL_S)
    await runner.start()
    await write(single, keys, conversation(keys, 3))
    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(RuntimeError, match="a defect"):
            await runner.wait()
    await eventually_async(lambda: has_feed(single, str(SEALED), keys.projected("feeds")))
    await runner.stop()
    assert await single.execute("EXISTS", keys.list, keys.projected("lists")) == 0


async def has_feed(server: Server, position: str, key: str) -> bool:
    """Whether the projection has come to this position."""
    return bool(await server.execute("GET", key) == position.encode())


async def test_a_defect_outside_a_fold_ends_the_process(single: Server) -> None:
    """A process of projections whose projector fails ends with status 1, so that its supervisor restarts it."""
    keys = a_run(single)
    await write(single, keys, conversation(keys, 3))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BROKEN_PROCESS, env=environment(REDIS_URL=single.url),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(TIMEOUT_S):
        _, printed = await process.communicate()
    assert process.returncode == 1
    assert b"RuntimeError: a defect" in printed
