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

SESSIONS_PER_LOOK = 32
"""Manifests read in one turn of a thread: half a second of a store that takes its time."""

_log = logging.getLogger(__name__)


class ArchiveSource:
    """The sessions whose audio is in an archive, whatever is left of them in Redis."""

    name = ARCHIVE

    def __init__(self, place: ArchiveLocation) -> None:
        """Look in the archive at `place`."""
        self._place = place

    async def find(self, selection: Selection) -> AsyncIterator[Replayable]:
        """See `Source.find`; of a day that is wanted, a look at each session of the tenant.

        Raises:
            LogUnavailableError: if the archive can't be reached.
        """
        store = open_store(self._place)
        wanted = ArchiveQuery(selection.session_ids, selection.tenant_id, selection.since_ms, selection.until_ms)
        found = find(store, wanted)
        try:
            while page := await asyncio.to_thread(lambda: list(islice(found, SESSIONS_PER_LOOK))):
                for one in filter(None, map(_replayable, page)):
                    if selection.wants(one.start):
                        yield one
        except ArchiveUnavailableError as error:
            raise LogUnavailableError(str(error)) from error
        finally:
            store.close()


def _replayable(found: ArchivedSession) -> Replayable | None:
    """What is known of an archived session; None if it can't be read, which is told."""
    manifest, trouble = found.manifest, found.error
    if manifest is not None:
        try:
            start = msgspec.structs.replace(manifest.started, channels=manifest.channels)
        except UndecodableEventError as error:
            trouble = str(error)
        else:
            return Replayable(
                manifest.session_id, manifest.tenant_id, manifest.started_ms, start, manifest.total_samples, ARCHIVE
            )
    _log.warning("archived session can't be read", extra={"session_id": found.session_id, "reason": trouble})
    return None
