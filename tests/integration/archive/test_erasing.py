"""A deleted session is deleted in the archive too, however the deletion and the archiving meet."""

from pathlib import Path

import pytest

from eventlog.archive.progress import ERASURE_GRACE_MS, ArchiveProgress
from eventlog.archive.stores import ArchiveUnavailableError, Store
from eventlog.keys import RunKeys
from eventlog.positions import START
from eventlog.work.erasure import erase, finish_erasures
from tests.integration.archive.live_archives import QUEUE, archived, archiving, at, manifest_of, noted, replay, store_at
from tests.support.archives import MemoryStore
from tests.support.deployment import Deployment, Session
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

STORY = Story(talk())


def remains(store: Store) -> list[str]:
    """All objects of a store."""
    return [*store.names("sessions"), *store.names("index")]


async def waits(deployment: Deployment, session: Session) -> bool:
    """Whether a session waits to be erased from the archive."""
    key = session.keys.partition.archive_erasures
    return await deployment.server.execute("ZSCORE", key, session.keys.session_id) is not None


async def age(deployment: Deployment, session: Session) -> None:
    """Makes a deletion so old that no writer can be active any more."""
    since_ms = await deployment.server.time_ms() - ERASURE_GRACE_MS - 1_000
    await deployment.server.execute("ZADD", session.keys.partition.archive_erasures, since_ms, session.keys.session_id)


async def test_a_deleted_session_is_erased_from_the_archive(deployment: Deployment, tmp_path: Path) -> None:
    """STITCH-5: deleting a session deletes its archived objects and markers, and nothing of any other."""
    store = store_at(tmp_path)
    await deployment.started()
    async with archiving(deployment.server, store):
        doomed, other = [await deployment.spoken(STORY) for _ in range(2)]
        await archived(store, doomed, other)
        await noted(deployment, doomed, other)
        assert await erase(deployment.server, doomed.keys, "")
        await eventually_async(lambda: manifest_of(store, doomed) is None, message="it is erased")
        await eventually_async(lambda: not [one for one in remains(store) if doomed.keys.session_id in one])
    assert manifest_of(store, other) is not None
    assert not list((tmp_path / "archive").rglob(f"*{doomed.keys.session_id}*"))


async def test_a_deletion_waits_for_the_archive(single: Deployment, tmp_path: Path) -> None:
    """STITCH-5: a session that is deleted while no archive process runs is erased by the next one."""
    store = store_at(tmp_path)
    await single.started()
    async with archiving(single.server, store):
        session = await single.spoken(STORY)
        await archived(store, session)
        await noted(single, session)
    assert await erase(single.server, session.keys, "")
    await finish_erasures(single.server)
    assert await waits(single, session)
    async with archiving(single.server, store, "next"):
        await eventually_async(lambda: not remains(store), message="it is erased")
        # Until no writer can be active any more its objects are deleted again.
        assert await waits(single, session)
        await age(single, session)

        async def settled() -> bool:
            return not await waits(single, session)

        await eventually_async(settled, message="nothing is left to do")


async def test_a_session_that_was_never_archived_leaves_no_order(single: Deployment) -> None:
    """Where nothing was archived, deleting leaves nothing for an archive that may never exist."""
    session = await single.spoken(STORY)
    assert await erase(single.server, session.keys, "")
    assert not await waits(single, session)


class MeetingStore(MemoryStore):
    """A store that runs a step during a write."""

    def __init__(self) -> None:
        """Wait for the first write."""
        super().__init__()
        self.is_open = False

    def _count(self) -> None:
        if not self.is_open:
            raise ArchiveUnavailableError("closed")


async def test_a_deleted_session_is_never_archived_again(single: Deployment) -> None:
    """STITCH-5: a session that is deleted while its archiving waits leaves nothing, once the archive can be reached."""
    store = MeetingStore()
    await single.started()
    async with archiving(single.server, store) as runner:
        session = await single.spoken(STORY)
        await single.ended(session)
        await eventually_async(lambda: runner.forwarders[0].stats.retried > 0, message="the archive is away")
        assert await erase(single.server, session.keys, "")
        store.is_open = True
        other = await single.spoken(STORY)
        await archived(store, other)
        await eventually_async(lambda: runner.forwarders[0].is_idle, message="nothing is left to do")
    assert [name for name in remains(store) if session.keys.session_id in name] == []


async def test_a_write_that_comes_late_is_taken_back(single: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """STITCH-5: a part whose writing was under way during the deletion is deleted by its writer."""
    store = MemoryStore()
    session = await single.spoken(STORY)
    note = ArchiveProgress.record

    async def late(marks: ArchiveProgress, keys: RunKeys, samples: int) -> bool:
        assert remains(store)
        await erase(single.server, session.keys, "")
        await single.server.execute("DEL", session.keys.partition.archive_erasures)
        return await note(marks, keys, samples)

    monkeypatch.setattr(ArchiveProgress, "record", late)
    await single.started()
    async with archiving(single.server, store, look_s=1_000.0) as runner:
        await eventually_async(lambda: runner.forwarders[0].stats.skipped > 0, message="it is passed over")
    assert remains(store) == []


async def test_replays_of_a_deleted_session_end(single: Deployment, tmp_path: Path) -> None:
    """STITCH-5: a replay from the archive stops when its session is deleted, and writes nothing any more."""
    store = store_at(tmp_path)
    await single.started()
    async with archiving(single.server, store):
        session = await single.spoken(STORY)
        await archived(store, session)
        await noted(single, session)
    manifest = manifest_of(store, session)
    assert manifest is not None
    again = await replay(single, manifest)
    assert await erase(single.server, session.keys, "")
    worker = await single.started(queue=QUEUE, archive=at(tmp_path))
    keys = again.keys.partition.queue(QUEUE)

    async def over() -> bool:
        worker._keeper.wake()
        return bool(await single.server.execute("XLEN", keys.sessions) == 0)

    await eventually_async(over, message="nothing of it is on offer")
    assert len(worker.active_runs) == 0
    assert await single.log.facts(again.run, START) == []
