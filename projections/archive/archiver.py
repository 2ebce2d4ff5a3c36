"""Writes sessions into an archive, part by part as they are processed; any process may begin a part again."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from eventlog.archive import writer
from eventlog.archive.flac import FlacEncoder
from eventlog.archive.manifest import DamagedArchiveError, Line, Manifest
from eventlog.archive.part_cutter import PartCutter
from eventlog.archive.progress import ALL, ArchiveProgress
from eventlog.archive.stores import Store
from eventlog.events import SessionStarted
from eventlog.keys import RunKeys
from eventlog.log import AudioEntry
from eventlog.redis.redis_log import RedisLog

PAGE_BYTES = 1 << 20
"""Of audio in one read: half a minute of 16 kHz, a millisecond of Redis's time, and the most that is in memory."""

MOST_KNOWN = 4096
"""Sessions remembered, under a kilobyte each: several times as many as one deployment has open by default."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """A session that is being archived."""

    start: SessionStarted
    part_samples: int
    archived_samples: int


class UnfinishedAudioError(Exception):
    """The log lacks the audio that a fact counts; it may have expired, or a failover may have lost it."""


class Archiver:
    """Archives sessions as far as they are processed."""

    def __init__(self, store: Store, marks: ArchiveProgress, log: RedisLog) -> None:
        """Write from `log` to `store`."""
        self._store = store
        self._marks = marks
        self._audio = log
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def reach(self, keys: RunKeys, processed_samples: int) -> bool:
        """Archive the parts that end there or before; False if the session is gone.

        Raises:
            ArchiveUnavailableError: if the store can't take them now.
            LogUnavailableError: if Redis can't be reached.
            UnfinishedAudioError: if the log lacks that audio.
            UndecodableEventError: if an event is unknown to this build.
        """
        known = await self._session(keys)
        if known is None:
            return False
        while known.archived_samples + known.part_samples <= processed_samples:
            if await self._write_part(keys, known) is None:
                return False
        return True

    async def finish(self, keys: RunKeys, end: writer.Ended) -> bool:
        """Archive the rest of a session whose live run has ended; False if the session is gone.

        Raises:
            DamagedArchiveError: if parts that were written have gone; they are written again next time.
            Exception: as `reach`.
        """
        known = await self._session(keys)
        if known is None:
            return False
        while known.archived_samples != ALL:
            cutter = await self._write_part(keys, known)
            if cutter is None:
                return False
            if cutter.sealed is None:
                continue
            lines = [Line(id=at, event=msgspec.Raw(data)) async for at, data in self._marks.facts(keys)]
            try:
                manifest = await asyncio.to_thread(writer.finish, self._store, known.start, cutter, lines, end)
            except DamagedArchiveError:
                known.archived_samples = 0
                raise
            if not await self._note(keys, known, ALL):
                return False
            _log_archived(manifest)
        return True

    async def erase(self, session_id: str) -> int:
        """Delete all of a session; how many objects that was.

        Raises:
            ArchiveUnavailableError: if not all is deleted.
        """
        return await asyncio.to_thread(writer.erase, self._store, session_id)

    async def _session(self, keys: RunKeys) -> _Known | None:
        known = self._known.get(keys.session_id)
        if known is None:
            mark = await self._marks.start(keys.session)
            if mark is None:
                return None
            archived = mark.archived_samples
            if archived != ALL and await asyncio.to_thread(writer.is_archived, self._store, keys.session_id):
                archived = ALL
            known = self._known[keys.session_id] = _Known(mark.start, mark.part_samples, archived)
            # Noted once more: the process before may have died between the two, or Redis may have forgotten it.
            if archived == ALL and not await self._note(keys, known, ALL):
                return None
        self._known.move_to_end(keys.session_id)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    async def _write_part(self, keys: RunKeys, known: _Known) -> PartCutter | None:
        """Write the next part, and note it; None if the session is gone."""
        start = known.start
        if not start.channels:
            await self._refresh(keys, known)
            start = known.start
        cutter = PartCutter(known.archived_samples // known.part_samples, known.part_samples, start.channels)
        encoder = FlacEncoder(start.sample_rate_hz, start.channels or 1)
        while not cutter.is_complete:
            found = await self._audio.read({keys.session: cutter.cursor}, max_bytes_each=PAGE_BYTES)
            entries = found.get(keys.session)
            if not entries:
                raise UnfinishedAudioError("the audio is not in the log")
            await asyncio.to_thread(_encode, cutter, encoder, entries)
        audio = await asyncio.to_thread(encoder.finish)
        await asyncio.to_thread(writer.write_part, self._store, start, cutter, audio)
        # The last part is noted with all the rest.
        if cutter.sealed is None and not await self._note(keys, known, cutter.end_samples):
            return None
        return cutter

    async def _refresh(self, keys: RunKeys, known: _Known) -> None:
        """Read the session's start again: a recording's channels are known once it is described."""
        mark = await self._marks.start(keys.session)
        if mark is not None:
            known.start = mark.start

    async def _note(self, keys: RunKeys, known: _Known, archived_samples: int) -> bool:
        """Note how far the session is archived; one that was deleted meanwhile is deleted here too."""
        if await self._marks.record(keys, archived_samples):
            known.archived_samples = archived_samples
            return True
        del self._known[keys.session_id]
        if await self._marks.is_erased(keys.session):
            await self.erase(keys.session_id)
        return False


def _encode(cutter: PartCutter, encoder: FlacEncoder, entries: list[AudioEntry]) -> None:
    for entry in entries:
        if cutter.is_complete:
            return
        encoder.add(cutter.feed(entry))


def _log_archived(manifest: Manifest) -> None:
    _log.info("session archived", extra={
        "session_id": manifest.session_id, "parts": len(manifest.parts), "missing": len(manifest.missing),
        "samples": manifest.total_samples, "bytes": sum(part.bytes for part in manifest.parts),
    })  # fmt: skip
