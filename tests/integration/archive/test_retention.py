"""Processed audio is freed at once, after a time, or once it is archived."""

from pathlib import Path

import numpy as np

from eventlog.archive.progress import ALL, ArchiveProgress
from eventlog.archive.stores import ArchiveUnavailableError
from eventlog.log import Code
from eventlog.work.replays import Replays, pin_start
from tests.integration.archive.live_archives import (
    PART_S,
    QUEUE,
    TTL_S,
    archived,
    archiving,
    manifest_of,
    noted,
    store_at,
)
from tests.integration.archive.test_projection import read_back
from tests.support.archives import MemoryStore
from tests.support.deployment import Deployment, Session
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

RATE_HZ = 16_000
LONG = Story(np.tile(talk(), (6, 1)))
"""Some fifty seconds: audio is freed in steps of ten."""
NODE_ENTRIES = 100
"""Redis frees whole nodes of a stream, of so many entries at most by default; here each entry is 100 ms."""


async def held(deployment: Deployment, session: Session) -> int:
    """The first sample of a session's audio in the log; the length if none is left."""
    [(entry_id, fields)] = await deployment.server.execute("XRANGE", session.keys.audio, "1", "+", "COUNT", 1)
    offset = int(entry_id.partition(b"-")[0])
    return offset - len(fields[1]) // 2 if fields[0] == b"pcm" else len(session.story.samples)


class Unreachable(MemoryStore):
    """An unreachable archive."""

    def _count(self) -> None:
        raise ArchiveUnavailableError("away")


async def test_processed_audio_is_freed_at_once(single: Deployment) -> None:
    """With `processed` no audio behind the checkpoint is kept, except the rest of a stream's node."""
    await single.started(audio_retention_s=0)
    session = await single.spoken(LONG)
    await single.ended(session)
    assert await held(single, session) > len(LONG.samples) - 30 * RATE_HZ


async def test_nothing_is_freed_that_is_not_archived(single: Deployment) -> None:
    """With `archived` all audio stays, however far it is processed, until an archive has it (REPLAY-1)."""
    await single.started(audio_retention_s=0, keeps_unarchived=True)
    async with archiving(single.server, Unreachable(), frees=True) as runner:
        session = await single.spoken(LONG)
        await single.ended(session)
        await eventually_async(lambda: runner.forwarders[0].stats.retried > 0, message="the archive is away")
    assert await held(single, session) == 0


async def test_archived_audio_is_freed(deployment: Deployment, tmp_path: Path) -> None:
    """With `archived` an ended session's audio is freed once the archive has it, which is whole."""
    store = store_at(tmp_path)
    await deployment.started(audio_retention_s=0, keeps_unarchived=True)
    async with archiving(deployment.server, store, frees=True):
        session = await deployment.spoken(LONG)
        await archived(store, session)
        await noted(deployment, session)
    assert await deployment.server.execute("XLEN", session.keys.audio) == 1
    manifest = manifest_of(store, session)
    assert manifest is not None
    assert manifest.missing == ()
    assert read_back(store, manifest)[0] == LONG.samples.tobytes()


async def test_a_long_session_is_freed_as_it_is_archived(single: Deployment, tmp_path: Path) -> None:
    """A running session frees audio that is both processed and archived, and not a sample more."""
    store = store_at(tmp_path)
    await single.started(audio_retention_s=0, keeps_unarchived=True)
    async with archiving(single.server, store, frees=True):
        session = await single.open(LONG)
        await session.say(session.entries[:-1])

        async def freed() -> bool:
            return await held(single, session) >= 20 * RATE_HZ

        await eventually_async(freed, message="audio is freed")
        # In this order, for all of them keep rising.
        held_from = await held(single, session)
        boundary = int((await session.checkpoint())["boundaries"].strip("[]"))
        assert held_from <= min(int(await single.server.execute("HGET", session.keys.session, "archived")), boundary)
        await session.say(session.entries[-1:])
        await archived(store, session)


async def test_the_archive_frees_nothing_unprocessed(single: Deployment) -> None:
    """Audio that is archived but not processed yet stays, for the worker still needs it."""
    session = await single.spoken(LONG)
    marks = ArchiveProgress(single.server, part_s=PART_S, frees=True)
    assert await marks.start(session.keys) is not None
    assert await marks.record(session.run, 40 * RATE_HZ)
    assert await held(single, session) == 0
    await single.server.execute("HSET", session.run.checkpoint, "boundaries", "[480000,320000]")
    assert await marks.record(session.run, 41 * RATE_HZ)
    assert 320_000 - NODE_ENTRIES * 1_600 <= await held(single, session) <= 320_000
    assert await marks.record(session.run, ALL)
    assert await single.server.execute("XLEN", session.keys.audio) > 1


async def test_the_mark_never_goes_back(single: Deployment) -> None:
    """A late record of less progress changes nothing; one of a session that is gone is refused."""
    session = await single.spoken(Story(talk()))
    marks = ArchiveProgress(single.server, part_s=PART_S, frees=False)
    assert await marks.start(session.keys) is not None
    for samples in (90_000, 100_000, 99_999):
        assert await marks.record(session.run, samples)
    mark = await ArchiveProgress(single.server, part_s=7, frees=False).start(session.keys)
    assert mark is not None
    assert (mark.archived_samples, mark.part_samples) == (100_000, PART_S * RATE_HZ)
    await single.server.execute("DEL", session.keys.session)
    assert not await marks.record(session.run, 110_000)
    assert await marks.start(session.keys) is None
    assert await single.server.execute("EXISTS", session.keys.session) == 0


async def test_a_replay_keeps_its_audio(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: no script frees audio that a replay started on, archived or not, live run or not."""
    store = store_at(tmp_path)
    session = await single.spoken(LONG)
    replays = Replays(single.server, session_ttl_s=TTL_S)
    start = pin_start(session.story.start)
    code = await replays.start(session.keys.run("again"), start, QUEUE, total_samples=len(LONG.samples))
    assert code == Code.OK
    await single.started(audio_retention_s=0)
    await single.ended(session)
    async with archiving(single.server, store, frees=True):
        await archived(store, session)
        await noted(single, session)
    assert await held(single, session) == 0
