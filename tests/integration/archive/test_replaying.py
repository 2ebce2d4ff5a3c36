"""Archived sessions are processed again, without any of their keys in Redis."""

from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.archive import layout
from eventlog.archive.directory import DirectoryStore
from eventlog.archive.location import ArchiveLocation, open_store
from eventlog.archive.manifest import Manifest
from eventlog.archive.stores import ArchiveUnavailableError
from eventlog.codec import decode_fact
from eventlog.events import HoleNoted
from processor import archive_prefetch
from processor.recognition_job import Job
from processor.recognition_queue import RecognitionQueue
from tests.integration.archive.live_archives import (
    PART_S,
    QUEUE,
    archived,
    archiving,
    at,
    manifest_of,
    noted,
    replay,
    store_at,
)
from tests.support.deployment import Deployment, Facts, Session, abandon, finals_in
from tests.support.pcm import Story, talk
from tests.support.servers import Server
from tests.support.waiting import eventually_async

FINALIZED = (16_000, 40_000)
HOLES = ((60_000, 70_000),)
SHORT = Story(talk())


def holes_in(facts: Facts) -> list[HoleNoted]:
    """The holes among some facts."""
    return [fact for _, data in facts if isinstance(fact := decode_fact(data), HoleNoted)]


async def test_a_session_outlives_redis(server: Server, tmp_path: Path) -> None:
    """REPLAY-1, REPLAY-3: with all of Redis gone, a replay from the archive states the same, to the sample."""
    store = store_at(tmp_path)
    story = Story(talk(channels=2), finalized=FINALIZED, holes=HOLES)
    async with Deployment(server.url) as before:
        await before.started()
        async with archiving(before.server, store):
            session = await before.spoken(story)
            await before.ended(session)
            await archived(store, session)
        facts = await session.facts()
    server.flush()
    manifest = manifest_of(store, session)
    assert manifest is not None
    assert (manifest.missing, manifest.part_samples) == (HOLES, PART_S * 16_000)
    async with Deployment(server.url) as after:
        again = await replay(after, manifest)
        await after.started(queue=QUEUE, archive=at(tmp_path))
        await after.ended(again)
        assert finals_in(await again.facts()) == finals_in(facts)
        assert len(finals_in(facts)) > len(FINALIZED)
        assert holes_in(await again.facts()) == holes_in(facts)
        assert len(holes_in(facts)) == 1
        assert await after.server.execute("EXISTS", again.keys.audio) == 0


async def archived_session(deployment: Deployment, tmp_path: Path, story: Story = SHORT) -> tuple[Session, Manifest]:
    """A session that is archived, and of which the log has no audio any more."""
    store = store_at(tmp_path)
    worker = await deployment.started()
    async with archiving(deployment.server, store):
        session = await deployment.spoken(story)
        await archived(store, session)
        await noted(deployment, session)
    await worker.stop()
    await deployment.server.execute("DEL", session.keys.audio)
    manifest = manifest_of(store, session)
    assert manifest is not None
    return session, manifest


async def wait_quarantined(deployment: Deployment, again: Session) -> str:
    """The reason of a run's quarantine, once it is quarantined."""

    async def look() -> str:
        found = await deployment.server.execute("XRANGE", again.keys.partition.quarantined, "-", "+")
        reasons = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in found]
        return next((one[b"reason"].decode() for one in reasons if one[b"run"] == again.run.member.encode()), "")

    return await eventually_async(look, message="it is quarantined")


@pytest.mark.parametrize(("kind", "reason"), [
    ("flipped", "SHA-256"), ("gone", "missing from the archive"), ("no manifest", "not in the archive any more"),
    ("short", "SHA-256"), ("nowhere", "STENOLOG_ARCHIVE_URL"),
])  # fmt: skip
async def test_damage_is_a_quarantine_reason(single: Deployment, tmp_path: Path, kind: str, reason: str) -> None:
    """REPLAY-1, SAFE-3: a run with missing or changed archived audio is quarantined, with the file as the reason."""
    _, manifest = await archived_session(single, tmp_path)
    folder = tmp_path / "archive" / layout.folder(manifest.session_id)
    part = folder / manifest.parts[-1].file
    if kind == "flipped":
        content = bytearray(part.read_bytes())
        content[-1] ^= 1
        part.write_bytes(content)
    elif kind == "short":
        part.write_bytes(part.read_bytes()[:-1])
    elif kind != "nowhere":
        (part if kind == "gone" else folder / layout.MANIFEST).unlink()
    again = await replay(single, manifest)
    await single.started(queue=QUEUE, archive=None if kind == "nowhere" else at(tmp_path))
    assert reason in await wait_quarantined(single, again)
    assert not await again.has_ended()


async def test_an_unreachable_archive_is_waited_for(
    single: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay continues once the archive can be reached again, and has lost nothing."""
    session, manifest = await archived_session(single, tmp_path)
    monkeypatch.setattr(archive_prefetch, "RETRY_S", 0.01)
    folder = tmp_path / "archive" / "sessions"
    folder.rename(tmp_path / "away")
    folder.write_bytes(b"")
    monkeypatch.setattr(DirectoryStore, "get", _refuse_files(DirectoryStore.get))
    again = await replay(single, manifest)
    worker = await single.started(queue=QUEUE, archive=at(tmp_path))
    await eventually_async(lambda: any(one.retry_at for one in worker._reader._archive._open.values()))
    folder.unlink()
    (tmp_path / "away").rename(folder)
    await single.ended(again)
    assert finals_in(await again.facts()) == finals_in(await session.facts())


def _refuse_files(get: Callable[[DirectoryStore, str], bytes]) -> Callable[[DirectoryStore, str], bytes]:
    """A directory whose folders can't be reached raises, as a network file system does."""

    def refusing(store: DirectoryStore, name: str) -> bytes:
        if not (store._root / "sessions").is_dir():
            raise ArchiveUnavailableError("archive: away")
        return get(store, name)

    return refusing


async def test_another_worker_continues_where_one_died(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-3, SAFE-1: a replay that is taken over in its middle continues within a part, with the same boundaries."""
    story = Story(talk(channels=2), finalized=FINALIZED, holes=HOLES)
    session, manifest = await archived_session(single, tmp_path, story)
    again = await replay(single, manifest)
    dies = await single.started(
        queue=QUEUE, archive=at(tmp_path), lease_ms=600, max_read_bytes=1, max_pending_utterances=1
    )

    async def under_way() -> bool:
        return await again.finals() >= 2

    await eventually_async(under_way, message="some is committed")
    await abandon(dies)
    hurried = await single.started(queue=QUEUE, archive=at(tmp_path), lease_ms=600)
    await single.ended(again, hurried=hurried)
    assert finals_in(await again.facts()) == finals_in(await session.facts())


async def test_other_workers_are_offered_nothing_of_it(
    single: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared recognition names ranges of the log's audio, so an archived run is recognised by its holder alone."""
    _, manifest = await archived_session(single, tmp_path)
    again = await replay(single, manifest)
    may_leave: list[bool] = []
    submit = RecognitionQueue.submit

    def watched(queue: RecognitionQueue, *jobs: Job) -> None:
        may_leave.extend(job.recorded.may_be_offered for job in jobs if job.recorded)
        submit(queue, *jobs)

    monkeypatch.setattr(RecognitionQueue, "submit", watched)
    await single.started(queue=QUEUE, archive=at(tmp_path))
    await single.ended(again)
    assert set(may_leave) == {False}


async def test_more_runs_than_are_read_at_once_all_end(single: Deployment, tmp_path: Path) -> None:
    """Runs beyond those that are read at once wait for their turn, and each has its own words."""
    session, manifest = await archived_session(single, tmp_path)
    runs = [await replay(single, manifest, f"again-{number}") for number in range(archive_prefetch.MAX_OPEN + 3)]
    await single.started(queue=QUEUE, archive=at(tmp_path))
    await single.ended(*runs)
    for again in runs:
        assert finals_in(await again.facts()) == finals_in(await session.facts())


async def test_a_replay_is_read_from_s3(single: Deployment, bucket: ArchiveLocation) -> None:
    """REPLAY-1: audio comes back from S3 as from a directory."""
    store = open_store(bucket)
    await single.started()
    async with archiving(single.server, store):
        session = await single.spoken(SHORT)
        await archived(store, session)
    manifest = manifest_of(store, session)
    assert manifest is not None
    again = await replay(single, manifest)
    await single.started(queue=QUEUE, archive=bucket)
    await single.ended(again)
    assert finals_in(await again.facts()) == finals_in(await session.facts())
