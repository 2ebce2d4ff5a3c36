"""The projection at work: real Redis, real worker, and an archive in a directory or in S3."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from eventlog.archive import layout
from eventlog.archive.manifest import Manifest
from eventlog.archive.progress import ALL
from eventlog.archive.reader import read_entries, read_lines, verify
from eventlog.archive.stores import ArchiveUnavailableError, Store
from eventlog.log import AudioEntry
from eventlog.positions import SEALED, START, Position
from eventlog.projection.dead_letters import MOVED, DeadLetter, read_dead_letters, redrive
from tests.integration.archive.live_archives import PART_S, archived, archiving, manifest_of, noted, store_at
from tests.support.archives import MemoryStore, WriterDiedError
from tests.support.deployment import Deployment, Session
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

STORY = Story(talk(), finalized=(20_000, 64_000), holes=((40_000, 50_000),))
PARTS = len(STORY.samples) // (PART_S * 16_000) + 1


def read_back(store: Store, manifest: Manifest) -> tuple[bytes, list[tuple[Position, bytes | None]]]:
    """All samples and events of an archived session."""
    entries = list(read_entries(store, manifest, START))
    return _read_back(entries)


def _read_back(entries: list[AudioEntry]) -> tuple[bytes, list[tuple[Position, bytes | None]]]:
    events = [(entry.position, entry.event) for entry in entries if entry.pcm is None]
    return b"".join(entry.pcm or b"" for entry in entries), events


async def is_complete(deployment: Deployment, store: Store, session: Session) -> bool:
    """Whether a session is archived to the last sample, event and fact."""
    manifest = manifest_of(store, session)
    assert manifest is not None
    entries = await deployment.log.read({session.keys: START}, max_bytes_each=1 << 30)
    assert read_back(store, manifest) == _read_back(entries[session.keys])
    facts = [(line.id, bytes(line.event)) for line in read_lines(store, manifest, manifest.facts)]
    stored = await deployment.log.facts(session.run, START)
    assert facts == [(str(position), fact) for position, fact in stored]
    assert verify(store, manifest) == []
    return True


async def test_a_session_is_archived_completely(deployment: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: the archive of an ended session holds every sample, control event and fact that the log has."""
    store = store_at(tmp_path)
    await deployment.started()
    async with archiving(deployment.server, store):
        sessions = [await deployment.spoken(STORY) for _ in range(3)]
        await archived(store, *sessions)
        for session in sessions:
            assert await is_complete(deployment, store, session)
        manifest = manifest_of(store, sessions[0])
        assert manifest is not None
        assert (len(manifest.parts), manifest.missing, manifest.reason) == (PARTS, STORY.holes, "stop")
        await noted(deployment, *sessions)


async def test_a_session_is_archived_in_s3(single: Deployment, store: Store) -> None:
    """REPLAY-1: an archive in S3 is the same as in a directory."""
    await single.started()
    async with archiving(single.server, store):
        session = await single.spoken(STORY)
        await archived(store, session)
        assert await is_complete(single, store, session)


async def test_parts_are_written_while_a_session_continues(single: Deployment, tmp_path: Path) -> None:
    """Parts that are processed are archived before the session ends, so that Redis need not hold a long one."""
    store = store_at(tmp_path)
    await single.started()
    async with archiving(single.server, store):
        session = await single.open(STORY)
        await session.say(session.entries[:-1])
        folder = layout.folder(session.keys.session_id)
        await eventually_async(lambda: len(list(store.names(folder))) >= 2 * (PARTS - 2), message="parts are there")
        assert manifest_of(store, session) is None
        await session.say(session.entries[-1:])
        await archived(store, session)
        assert await is_complete(single, store, session)


class DyingStore(MemoryStore):
    """A store whose process dies at some write."""

    def __init__(self, objects: dict[str, bytes], *, writes: int | None, dead: threading.Event) -> None:
        """Share `objects`; write `writes` of them, then stop answering permanently and say so."""
        super().__init__(writes=writes)
        self.objects = objects
        self._dead = dead

    def _count(self) -> None:
        try:
            super()._count()
        except WriterDiedError:
            self._dead.set()
            raise ArchiveUnavailableError("dead") from None


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14])
async def test_a_death_at_any_write_loses_nothing(single: Deployment, writes: int) -> None:
    """SAFE-1: after an archiver's death at any write another completes the session."""
    objects: dict[str, bytes] = {}
    dead = threading.Event()
    await single.started()
    session = await single.spoken(STORY)
    await single.ended(session)
    async with archiving(single.server, DyingStore(objects, writes=writes, dead=dead), "dies"):
        await eventually_async(dead.is_set, message="it dies")
    store = MemoryStore()
    store.objects = objects
    async with archiving(single.server, store, "goes on"):
        await archived(store, session)
        await noted(single, session)
    assert await is_complete(single, store, session)
    assert len(objects) == 1 + 3 + PARTS


async def test_several_processes_share(single: Deployment, tmp_path: Path) -> None:
    """Two processes archive some sessions together, each session whole, and share the partitions."""
    store = store_at(tmp_path)
    await single.started()
    async with archiving(single.server, store, "one") as one, archiving(single.server, store, "two") as two:
        sessions = [await single.spoken(STORY) for _ in range(8)]
        await archived(store, *sessions)
        await eventually_async(lambda: len(one.forwarders[0].assignment) == len(two.forwarders[0].assignment) == 4)
    for session in sessions:
        assert await is_complete(single, store, session)


async def test_a_session_that_was_given_up_can_be_archived_yet(single: Deployment) -> None:
    """BATCH-6: past the bound the end of a session goes to the dead letters, and archives all of it once redriven."""
    store = UnreachableStore()
    await single.started()
    async with archiving(single.server, store, give_up_s=0.0):
        session = await single.spoken(STORY)

        async def dead_letters() -> list[DeadLetter]:
            found = [letter async for page in read_dead_letters(single.server, ["archive"]) for letter in page]
            return [letter for letter in found if letter.position == SEALED]

        given_up = await eventually_async(dead_letters, message="it is given up")
        assert given_up[0].reason == "away"
        store.is_unreachable = False
        assert await redrive(single.server, given_up) == [MOVED]
        await archived(store, session)
    assert await is_complete(single, store, session)


class UnreachableStore(MemoryStore):
    """A store that is unreachable for a while."""

    is_unreachable = True

    def _count(self) -> None:
        if self.is_unreachable:
            raise ArchiveUnavailableError("away")


async def test_an_unreachable_archive_is_waited_for(single: Deployment) -> None:
    """An unreachable archive loses and gives up nothing, is reported, and is written again once it answers."""
    store = UnreachableStore()
    await single.started()
    async with archiving(single.server, store) as runner:
        session = await single.spoken(STORY)
        await single.ended(session)
        await eventually_async(lambda: runner.forwarders[0].stats.retried >= 2, message="it is tried again")
        store.is_unreachable = False
        await archived(store, session)
        await noted(single, session)
    assert await is_complete(single, store, session)


async def test_lost_progress_costs_the_archive_nothing(single: Deployment, tmp_path: Path) -> None:
    """A failover that lost how far a session was archived costs its archive nothing, though its audio is freed."""
    store = store_at(tmp_path)
    await single.started()
    async with archiving(single.server, store):
        session = await single.spoken(STORY)
        await archived(store, session)
        await noted(single, session)
    before = manifest_of(store, session)
    await single.server.execute("HDEL", session.keys.session, "archived")
    await single.server.execute("DEL", session.run.projected("archive"))
    await single.server.execute("XTRIM", session.keys.audio, "MINID", "=", str(SEALED))
    async with archiving(single.server, store, "anew"):
        await noted(single, session)
    after = manifest_of(store, session)
    assert before is not None
    assert after is not None
    assert after.parts == before.parts
    assert await single.server.execute("HGET", session.keys.session, "archived") == str(ALL).encode()


async def test_freed_audio_does_not_replace_saved_parts(single: Deployment, tmp_path: Path) -> None:
    """Parts that an earlier try has saved are kept where the log has freed their audio meanwhile."""
    store = store_at(tmp_path)
    await single.started()
    session = await single.open(STORY)
    async with archiving(single.server, store):
        await session.say(session.entries[:-1])
        note = layout.part_note(session.keys.session_id, 1)
        await eventually_async(lambda: note in list(store.names(layout.folder(session.keys.session_id))))
    await single.server.execute("HSET", session.keys.session, "archived", 0)
    await single.server.execute("XTRIM", session.keys.audio, "MINID", "=", f"{2 * PART_S * 16_000}-1")
    await session.say(session.entries[-1:])
    async with archiving(single.server, store, "anew"):
        await archived(store, session)
    manifest = manifest_of(store, session)
    assert manifest is not None
    assert manifest.missing == STORY.holes
    pcm, _ = read_back(store, manifest)
    retained = np.concatenate([STORY.samples[:40_000], STORY.samples[50_000:]])
    assert pcm == retained.tobytes()


async def test_lost_audio_is_reported(single: Deployment, tmp_path: Path) -> None:
    """Audio that was freed before the archive came is reported as missing, by its position, and the rest is kept."""
    store = store_at(tmp_path)
    await single.started()
    session = await single.spoken(Story(talk()))
    await single.ended(session)
    await single.server.execute("XTRIM", session.keys.audio, "MINID", "=", "48000-0")
    async with archiving(single.server, store):
        await archived(store, session)
    manifest = manifest_of(store, session)
    assert manifest is not None
    assert manifest.missing == ((0, 46_400),)
    assert read_back(store, manifest)[0] == talk()[46_400:].tobytes()


async def test_an_empty_session_is_archived(single: Deployment, tmp_path: Path) -> None:
    """STITCH-6: a session without speech is archived as such."""
    store = store_at(tmp_path)
    await single.started()
    async with archiving(single.server, store):
        session = await single.spoken(Story(talk()[:0]))
        await archived(store, session)
    manifest = manifest_of(store, session)
    assert manifest is not None
    assert (manifest.total_samples, [part.file for part in manifest.parts], manifest.missing) == (0, [""], ())
    assert len(list(read_entries(store, manifest, START))) == 2


async def test_stopping_at_once_is_harmless(single: Deployment, tmp_path: Path) -> None:
    """A process that is stopped as it starts leaves no task behind."""
    async with archiving(single.server, store_at(tmp_path)):
        pass
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "archive erasures"]
