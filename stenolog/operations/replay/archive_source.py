"""Finds sessions in the archive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import islice

import msgspec

from eventlog.archive.finder import ArchivedSession, ArchiveQuery, find
from eventlog.archive.location import ArchiveLocation, open_store
from eventlog.archive.stores import ArchiveUnavailableError
from eventlog.codec import UndecodableEventError
from eventlog.log import LogUnavailableError
from eventlog.work.replays import ARCHIVE
from stenolog.operations.replay.sources import Replayable, Selection

PAGE_SESSIONS = 32
"""Manifests read in one turn of a thread: half a second of a slow store."""

_log = logging.getLogger(__name__)


class ArchiveSource:
    """The sessions whose audio is in an archive, even if Redis has forgotten them."""

    name = ARCHIVE

    def __init__(self, place: ArchiveLocation) -> None:
        """Look in the archive at `place`."""
        self._place = place

    async def find(self, selection: Selection) -> AsyncIterator[Replayable]:
        """See `Source.find`; reads each session of the tenant on the selected days.

        Raises:
            LogUnavailableError: if the archive can't be reached.
        """
        store = open_store(self._place)
        query = ArchiveQuery(selection.session_ids, selection.tenant_id, selection.since_ms, selection.until_ms)
        found = find(store, query)
        try:
            while page := await asyncio.to_thread(lambda: list(islice(found, PAGE_SESSIONS))):
                for one in filter(None, map(_replayable, page)):
                    if selection.matches(one.start):
                        yield one
        except ArchiveUnavailableError as error:
            raise LogUnavailableError(str(error)) from error
        finally:
            store.close()


def _replayable(found: ArchivedSession) -> Replayable | None:
    """An archived session; None if it can't be read, which is logged."""
    manifest, error = found.manifest, found.error
    if manifest is not None:
        try:
            start = msgspec.structs.replace(manifest.started, channels=manifest.channels)
        except UndecodableEventError as undecodable:
            error = str(undecodable)
        else:
            return Replayable(
                manifest.session_id, manifest.tenant_id, manifest.started_ms, start, manifest.total_samples, ARCHIVE
            )
    _log.warning("unreadable archived session skipped", extra={"session_id": found.session_id, "reason": error})
    return None
