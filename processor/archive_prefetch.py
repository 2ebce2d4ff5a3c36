"""Reads replays' audio that has left the log ahead from the archive, in threads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from eventlog.archive.location import ArchiveLocation, open_store
from eventlog.archive.manifest import DamagedArchiveError
from eventlog.archive.reader import CHUNK_BYTES, read_entries, read_manifest
from eventlog.archive.stores import ArchiveUnavailableError, MissingObjectError, Store
from eventlog.codec import UndecodableEventError
from eventlog.log import AudioEntry
from eventlog.positions import Position
from processor.active_runs import ActiveRun

log = logging.getLogger(__name__)

MAX_OPEN = 8
"""Runs read at once: each keeps a part's file in memory, 5 MB of 16 kHz speech and 30 MB of 48 kHz stereo at worst."""

RETRY_S = 5.0
"""Pause after the archive could not be reached; a run waits meanwhile, and its claim is kept."""

NO_PLACE = "its audio is in an archive, and no STENOLOG_ARCHIVE_URL says where that is"


class Batch(NamedTuple):
    """Entries of a run, in order; or the error after which no more will come."""

    run: ActiveRun
    entries: list[AudioEntry]
    error: str = ""


@dataclass(slots=True)
class _OpenRun:
    """A run whose audio is being read, from after the position `after`."""

    after: Position
    entries: Iterator[AudioEntry] | None
    reading: asyncio.Task[list[AudioEntry]] | None = None
    retry_at: float = 0.0


class ArchivePrefetch:
    """Keeps one batch of each run ahead, so that decoding a file and segmenting it use two cores."""

    def __init__(self, place: ArchiveLocation | None, *, batch_bytes: int) -> None:
        """Read from `place`, about `batch_bytes` of samples at a time."""
        self._batch = max(1, batch_bytes // CHUNK_BYTES)
        self._store: Store | None = open_store(place) if place else None
        self._open: dict[ActiveRun, _OpenRun] = {}

    def take(self, wanted: Iterable[ActiveRun]) -> list[Batch]:
        """The batches of these runs that have been read since; reading continues."""
        for run in [run for run in self._open if not run.is_held or run.timeline.has_ended]:
            if (reading := self._open.pop(run).reading) is not None:
                reading.cancel()
        return [batch for run in wanted if (batch := self._take(run)) is not None]

    def close(self) -> None:
        """Stop reading."""
        for one in self._open.values():
            if one.reading is not None:
                one.reading.cancel()
        self._open.clear()
        if self._store is not None:
            self._store.close()

    def _take(self, run: ActiveRun) -> Batch | None:
        if self._store is None:
            return Batch(run, [], NO_PLACE)
        one = self._open.get(run)
        if one is None:
            if len(self._open) < MAX_OPEN:
                self._open[run] = one = _OpenRun(run.timeline.cursor, None)
                self._read_on(run, one)
            return None
        if one.reading is None:
            if time.monotonic() >= one.retry_at:
                self._read_on(run, one)
            return None
        if not one.reading.done():
            return None
        return self._finish(run, one, one.reading)

    def _finish(self, run: ActiveRun, open_run: _OpenRun, reading: asyncio.Task[list[AudioEntry]]) -> Batch | None:
        open_run.reading = None
        member = run.claim.keys.member
        try:
            entries = reading.result()
        except ArchiveUnavailableError as error:
            log.warning("archive not read; retrying", extra={"run": member, "error": error})
            open_run.entries, open_run.retry_at = None, time.monotonic() + RETRY_S
            return None
        except MissingObjectError:
            return Batch(run, [], "it is not in the archive any more")
        except (DamagedArchiveError, UndecodableEventError) as error:
            return Batch(run, [], f"its archive is damaged: {error}")
        except Exception as error:
            log.exception("archive not read: defect", extra={"run": member})
            return Batch(run, [], f"its archive can't be read: {type(error).__name__}")
        if not entries:
            return Batch(run, [], "its archive ends before the session does")
        open_run.after = entries[-1].position
        self._read_on(run, open_run)
        return Batch(run, entries)

    def _read_on(self, run: ActiveRun, open_run: _OpenRun) -> None:
        open_run.reading = asyncio.create_task(asyncio.to_thread(self._next, run.claim.keys.session_id, open_run))
        open_run.reading.add_done_callback(_retrieve_error)

    def _next(self, session_id: str, open_run: _OpenRun) -> list[AudioEntry]:
        """The next batch; runs in a thread, one at a time for each run."""
        if open_run.entries is None:
            assert self._store is not None  # noqa: S101 - else nothing is read
            open_run.entries = read_entries(self._store, read_manifest(self._store, session_id), open_run.after)
        return list(islice(open_run.entries, self._batch))


def _retrieve_error(reading: asyncio.Task[list[AudioEntry]]) -> None:
    """Keep asyncio from logging the error of a read whose result is not needed any more."""
    if not reading.cancelled():
        reading.exception()
