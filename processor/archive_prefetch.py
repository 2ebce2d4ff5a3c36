"""The audio of replays that the log hasn't got any more: read ahead from the archive, in threads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from eventlog.archive.location import ArchiveLocation, open_store
from eventlog.archive.manifest import DamagedArchiveError
from eventlog.archive.reader import CHUNK_BYTES, read_entries, read_manifest
from eventlog.archive.stores import ArchiveUnavailableError, MissingObjectError, Store
from eventlog.codec import UndecodableEventError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventlog.log import AudioEntry
    from eventlog.positions import Position
    from processor.active_run import ActiveRun

log = logging.getLogger(__name__)

MOST_OPEN = 8
"""Runs read at once: each keeps a part's file in memory, 5 MB of 16 kHz speech and 30 MB of 48 kHz stereo at worst."""

RETRY_S = 5.0
"""After the archive could not be reached; a run waits meanwhile, and its claim is kept."""

NO_PLACE = "its audio is in an archive, and no STENOLOG_ARCHIVE_URL says where that is"


class Batch(NamedTuple):
    """What was read of a run: entries, in order; or why there will be none."""

    run: ActiveRun
    entries: list[AudioEntry]
    trouble: str = ""


@dataclass(slots=True)
class _Open:
    """A run whose audio is being read."""

    after: Position
    """What was handed out ends there."""
    entries: Iterator[AudioEntry] | None
    reading: asyncio.Task[list[AudioEntry]] | None = None
    retry_at: float = 0.0


class ArchivePrefetch:
    """Reads ahead of each run by one batch, so that decoding a file and segmenting it use two cores."""

    def __init__(self, place: ArchiveLocation | None, *, batch_bytes: int) -> None:
        """Read from `place`, about `batch_bytes` of samples at a time."""
        self._batch = max(1, batch_bytes // CHUNK_BYTES)
        self._store: Store | None = open_store(place) if place else None
        self._open: dict[ActiveRun, _Open] = {}

    def take(self, wanted: Iterable[ActiveRun]) -> list[Batch]:
        """What has been read of these runs since; reading goes on."""
        self._close_others()
        found: list[Batch] = []
        for run in wanted:
            batch = self._taken(run)
            if batch is not None:
                found.append(batch)
        return found

    def close(self) -> None:
        """Read no more."""
        for one in self._open.values():
            if one.reading is not None:
                one.reading.cancel()
        self._open.clear()
        if self._store is not None:
            self._store.close()

    def _close_others(self) -> None:
        for run in [run for run in self._open if not run.held or run.timeline.ended]:
            if (reading := self._open.pop(run).reading) is not None:
                reading.cancel()

    def _taken(self, run: ActiveRun) -> Batch | None:
        if self._store is None:
            return Batch(run, [], NO_PLACE)
        one = self._open.get(run)
        if one is None:
            if len(self._open) < MOST_OPEN:
                self._open[run] = one = _Open(run.timeline.cursor, None)
                self._read_on(run, one)
            return None
        if one.reading is None:
            if time.monotonic() >= one.retry_at:
                self._read_on(run, one)
            return None
        if not one.reading.done():
            return None
        return self._finished(run, one, one.reading)

    def _finished(self, run: ActiveRun, one: _Open, reading: asyncio.Task[list[AudioEntry]]) -> Batch | None:
        one.reading = None
        member = run.claim.keys.member
        try:
            entries = reading.result()
        except ArchiveUnavailableError as error:
            log.warning("archive not read, trying again", extra={"run": member, "error": error})
            one.entries, one.retry_at = None, time.monotonic() + RETRY_S
            return None
        except MissingObjectError:
            return Batch(run, [], "it is not in the archive any more")
        except (DamagedArchiveError, UndecodableEventError) as error:
            return Batch(run, [], f"its archive is damaged: {error}")
        except Exception as error:
            log.exception("archive not read by a defect", extra={"run": member})
            return Batch(run, [], f"its archive can't be read: {type(error).__name__}")
        if not entries:
            return Batch(run, [], "its archive ends before the session does")
        one.after = entries[-1].position
        self._read_on(run, one)
        return Batch(run, entries)

    def _read_on(self, run: ActiveRun, one: _Open) -> None:
        one.reading = asyncio.create_task(asyncio.to_thread(self._next, run.claim.keys.session_id, one))
        one.reading.add_done_callback(_looked_at)

    def _next(self, session_id: str, one: _Open) -> list[AudioEntry]:
        """The next batch; in a thread, one at a time for each run."""
        if one.entries is None:
            assert self._store is not None  # noqa: S101 - else nothing is read
            one.entries = read_entries(self._store, read_manifest(self._store, session_id), one.after)
        return list(islice(one.entries, self._batch))


def _looked_at(reading: asyncio.Task[list[AudioEntry]]) -> None:
    """What went wrong with one that nobody asks for any more is no news."""
    if not reading.cancelled():
        reading.exception()
