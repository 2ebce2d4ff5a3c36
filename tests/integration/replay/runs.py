"""Sessions with several runs, whose facts a test writes itself, and read models by the projections' own code."""

import uuid
from collections.abc import Sequence
from typing import Any

from eventlog.events import Fact, SessionStarted
from eventlog.keys import LIVE_RUN, READ_MODELS, RunKeys, SessionKeys
from eventlog.log import Code
from eventlog.positions import SEALED, Position
from eventlog.projection.projection_log import ProjectionLog
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server
from eventlog.work.promotion import ReadModelKeys, promoted_runs, read_model_keys, reader_keys
from projections.applier import Applier
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.sessions import Sessions
from projections.status import Status
from tests.integration.projections.facts import RATE_HZ, ended, final, opened, write
from tests.support.waiting import eventually_async

TTL_S = 600
Content = tuple[list[str], str, dict[str, str]]


def texts(run: str, count: int = 3) -> list[str]:
    """The texts of a run, different in each."""
    return [f"{run} says {number}." for number in range(count)]


async def a_session(server: Server, *runs: str, count: int = 3, session_id: str = "") -> SessionKeys:
    """A session whose live run, and replays called `runs`, are over and projected; replays have fewer finals."""
    keys = server.keys.of(session_id or str(uuid.uuid4()))
    log = RedisLog(server, session_ttl_s=TTL_S)
    start = SessionStarted(
        session_id=keys.session_id, sample_rate_hz=RATE_HZ, engine="mock", tenant_id="tenant", started_ms=1
    )
    assert (await log.open(keys, start, "hash")).code == Code.OK
    await say(server, keys.run(), texts(LIVE_RUN, count))
    for number, run in enumerate(runs, 1):
        await say(server, keys.run(run), texts(run, count - number % 2))
    await project(server, *(keys.run(run) for run in (LIVE_RUN, *runs)))
    return keys


async def say(server: Server, run: RunKeys, said: Sequence[str], *, is_over: bool = True) -> None:
    """Write the facts of a run; the live run's first is there already."""
    facts: list[tuple[Position, Fact]] = [final(number, text) for number, text in enumerate(said)]
    if run.run != LIVE_RUN:
        facts.insert(0, opened(run, opened_ms=1_700_000_000_000 + len(run.run)))
    if is_over:
        facts.append(ended(len(said)))
    await write(server, run, facts)


def all_projections() -> list[Projection]:
    """Those that make read models."""
    return [Lists(), Feeds(), Sessions(session_ttl_s=TTL_S), Status()]


async def project(server: Server, *runs: RunKeys, only: Sequence[str] = READ_MODELS) -> None:
    """Bring these runs' read models up to date, now."""
    for projection in all_projections():
        if projection.name in only:
            log = ProjectionLog(server, projection.name, "c", session_ttl_s=TTL_S)
            assert await Applier(projection, log).catch_up(runs) == set()


async def projected(server: Server, *runs: RunKeys) -> None:
    """Return when these runs' read models are complete, by any projection."""

    async def look() -> bool:
        keys = [run.projected(name) for run in runs for name in READ_MODELS]
        return all([await server.execute("GET", key) == str(SEALED).encode() for key in keys])

    await eventually_async(look, message="all read models are complete")


async def content(server: Server, keys: ReadModelKeys) -> Content:
    """What stands there."""
    entries, document, view = await server.execute_many(
        [("LRANGE", keys.list, 0, -1), ("GET", keys.document), ("HGETALL", keys.view)]
    )
    return [entry.decode() for entry in entries], (document or b"").decode(), as_text(view)


def as_text(view: Any) -> dict[str, str]:  # noqa: ANN401 - Redis's answer, a map or a flat list
    """A hash as text."""
    items = view.items() if isinstance(view, dict) else zip(view[::2], view[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in items}


async def own(server: Server, run: RunKeys) -> Content:
    """A run's own read models, wherever they stand now."""
    [promoted] = await promoted_runs(server, [run.session])
    return await content(server, read_model_keys(run, promoted)[0])


async def read(server: Server, session: SessionKeys) -> Content:
    """What readers receive."""
    return await content(server, reader_keys(session))
