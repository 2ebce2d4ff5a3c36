"""Finds archived sessions: by id at once, by day and tenant through the index. Blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from eventlog.archive import layout
from eventlog.archive.manifest import DamagedArchiveError, Manifest
from eventlog.archive.reader import read_manifest
from eventlog.archive.stores import MissingObjectError, Store


class ArchiveQuery(NamedTuple):
    """Selects sessions: those named, or those that meet every bound that is given."""

    session_ids: Sequence[str] = ()
    tenant_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    """Started before that."""

    def wants_day(self, day: str) -> bool:
        """Whether a day may have selected sessions."""
        if self.since_ms is not None and day < layout.day_of(self.since_ms):
            return False
        return self.until_ms is None or day <= layout.day_of(self.until_ms)

    def wants(self, started_ms: int) -> bool:
        """Whether a session that started then meets the bounds."""
        after = self.since_ms is None or started_ms >= self.since_ms
        return after and (self.until_ms is None or started_ms < self.until_ms)


class ArchivedSession(NamedTuple):
    """An archived session, or the error for which it can't be read."""

    session_id: str
    manifest: Manifest | None
    error: str = ""


def find(store: Store, wanted: ArchiveQuery) -> Iterator[ArchivedSession]:
    """Yield the archived sessions that `wanted` selects, day by day unless they are named.

    Only their manifests are read. A session whose archive isn't complete yet is left out.

    Raises:
        ArchiveUnavailableError: if the store can't be read.
    """
    named = dict.fromkeys(wanted.session_ids) if wanted.session_ids else _marked(store, wanted)
    for session_id in named:
        try:
            yield ArchivedSession(session_id, read_manifest(store, session_id))
        except MissingObjectError:
            continue
        except DamagedArchiveError as error:
            yield ArchivedSession(session_id, None, str(error))


def _marked(store: Store, wanted: ArchiveQuery) -> Iterator[str]:
    for folder in sorted(store.folders(layout.INDEX)):
        day = folder.rpartition("date=")[2]
        if not wanted.wants_day(day):
            continue
        names = store.names(folder if wanted.tenant_id is None else layout.tenant_folder(day, wanted.tenant_id))
        for name in names:
            found = layout.parse_marker(name)
            if found is not None and wanted.wants(found.started_ms):
                yield layout.session_id_of(found)
