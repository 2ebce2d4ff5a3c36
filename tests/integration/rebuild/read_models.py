"""Runs whose read models are made, remembered, damaged and rebuilt."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from eventlog.keys import READ_MODELS, RunKeys
from eventlog.positions import START
from eventlog.projection.projection_log import ProjectionLog
from eventlog.projection.rebuild import PARTS, read_dead_letter_ids, rebuild_keys, scan_runs
from eventlog.redis.server import Server
from projections.applier import Applier
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.rebuilder import Rebuilder, Report
from projections.sessions import Sessions
from projections.status import Status
from tests.support.key_search import all_keys, content_of

TTL_S = 1_000


def projection(name: str) -> Projection:
    """One of the four, as a deployment has it."""
    made: dict[str, Callable[[], Projection]] = {
        "lists": Lists, "feeds": Feeds, "sessions": lambda: Sessions(session_ttl_s=TTL_S), "status": Status,
    }
    return made[name]()


async def project(server: Server, runs: Iterable[RunKeys], names: Sequence[str] = READ_MODELS) -> None:
    """Bring the read models of these runs up to date, as a process that projects does."""
    for name in names:
        log = ProjectionLog(server, name, "c", session_ttl_s=TTL_S)
        assert await Applier(projection(name), log).catch_up(runs) == set()


def nothing(_: Report) -> None:
    """Shows no progress."""


async def rebuild(server: Server, name: str, *runs: RunKeys, verify: bool = True) -> Report:
    """Rebuild a read model of some runs, or of all."""
    rebuilder = Rebuilder(
        projection(name), server, consumer="c", session_ttl_s=TTL_S, verify=verify, is_complete=not runs,
        dead_letter_ids=await read_dead_letter_ids(server, name),
    )
    return await rebuilder.run(each(runs) if runs else scan_runs(server), nothing)


async def each(runs: Iterable[RunKeys]) -> AsyncIterator[RunKeys]:
    """The runs, one by one."""
    for run in runs:
        yield run


def parts_of(run: RunKeys, name: str) -> list[str]:
    """The keys of a run's read model, its position among them."""
    return [*(getattr(run, part) for part in PARTS[name]), run.projected(name)]


async def remembered(server: Server) -> dict[str, Any]:
    """The content of every key, except for the log's own bookkeeping."""
    return {name: await content_of(server, name) for name in await all_keys(server)}


async def no_leftovers(server: Server, *runs: RunKeys) -> bool:
    """Whether nothing is left of copies."""
    keys = [key for run in runs for key in rebuild_keys(run)]
    return await server.execute_many([("EXISTS", key) for key in keys]) == [0] * len(keys)


async def pushed(server: Server, run: RunKeys) -> int:
    """How many entries the List has, 0 for no List."""
    return int(await server.execute("LLEN", run.list)) + START.offset
