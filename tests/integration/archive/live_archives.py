"""Archives at work: projections that write them, their content, and replays that read them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from eventlog.archive.location import ArchiveLocation, open_store
from eventlog.archive.manifest import Manifest
from eventlog.archive.progress import ArchiveProgress
from eventlog.archive.reader import read_manifest
from eventlog.archive.stores import MissingObjectError, Store
from eventlog.keys import SessionKeys
from eventlog.log import Code
from eventlog.redis.server import Server
from eventlog.work.replays import ARCHIVE, Replays, pin_start
from projections.archive import Archive
from projections.runner import Forwarding, ProjectionRunner
from tests.support.deployment import Deployment, Session
from tests.support.waiting import eventually_async

TTL_S = 1_000
PART_S = 2
"""A few parts in each of the tests' short sessions."""
QUEUE = "mock"
LOOK_S = 0.05
GIVE_UP_S = 600.0


def at(path: Path) -> ArchiveLocation:
    """An archive in a directory."""
    return ArchiveLocation(url=str(path / "archive"))


@asynccontextmanager
async def archiving(
    server: Server, store: Store, consumer: str = "c1", *, frees: bool = False, part_s: int = PART_S,
    lease_ms: int = 1_500, give_up_s: float = GIVE_UP_S, look_s: float = LOOK_S,
) -> AsyncIterator[ProjectionRunner]:  # fmt: skip
    """One process's archive projection at work."""
    sink = Archive(store, ArchiveProgress(server, part_s=part_s, frees=frees), session_ttl_s=TTL_S, look_s=look_s)
    runner = ProjectionRunner(
        server, [], consumer, session_ttl_s=TTL_S,
        forwarding=Forwarding([sink], lease_ms=lease_ms, give_up_s=give_up_s),
    )  # fmt: skip
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


def manifest_of(store: Store, session: Session) -> Manifest | None:
    """The manifest of an archived session, None if it isn't complete yet."""
    try:
        return read_manifest(store, session.keys.session_id)
    except MissingObjectError:
        return None


async def archived(store: Store, *sessions: Session) -> None:
    """Return when all these are archived."""
    await eventually_async(
        lambda: all(manifest_of(store, session) for session in sessions), message="the sessions are archived"
    )


async def noted(deployment: Deployment, *sessions: Session) -> None:
    """Return when the projection has moved past the end of all these."""

    async def look() -> bool:
        found = [await deployment.server.execute("GET", one.run.projected("archive")) for one in sessions]
        return all(found) and {one.partition(b"-")[0] for one in found} == {b"18446744073709551615"}

    await eventually_async(look, message="the projection stands at the ends")


async def replay(deployment: Deployment, manifest: Manifest, run: str = "again", **changes: object) -> Session:
    """Starts a replay of an archived session."""
    keys = deployment.server.keys.of(manifest.session_id)
    start = pin_start(manifest.started, channels=manifest.channels, **changes)
    code = await Replays(deployment.server, session_ttl_s=TTL_S).start(
        keys.run(run), start, QUEUE, total_samples=manifest.total_samples, source=ARCHIVE
    )
    assert code == Code.OK
    return Replayed(deployment, keys, run)


class Replayed(Session):
    """A replay of a session that the log may not have."""

    def __init__(self, deployment: Deployment, keys: SessionKeys, run: str) -> None:
        """Bind to a run."""
        self.keys = keys
        self.run = keys.run(run)
        self._log = deployment.log


def store_at(path: Path) -> Store:
    """The store of `at`."""
    return open_store(at(path))
