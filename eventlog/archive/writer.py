"""Writes a session into an archive; every step may be interrupted anywhere and repeated. Blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Raw

from eventlog.archive import layout
from eventlog.archive.flac import sha256_of
from eventlog.archive.manifest import (
    DamagedArchiveError,
    Line,
    Lines,
    Manifest,
    Part,
    PartNote,
    decode_manifest,
    decode_note,
    encode_lines,
    encode_manifest,
    encode_note,
    find_missing,
)
from eventlog.archive.part_cutter import PartCutter
from eventlog.archive.stores import MissingObjectError, Store
from eventlog.codec import encode
from eventlog.events import SessionStarted


class Ended(NamedTuple):
    """How a session's live run ended."""

    reason: str
    ended_ms: int


def is_archived(store: Store, session_id: str) -> bool:
    """Whether a session's archive is complete; deletes what a writer that died after that left over.

    Raises:
        ArchiveUnavailableError: if the store can't be read.
        DamagedArchiveError: if it has a manifest that this build can't read, and so must not replace.
    """
    folder = layout.folder(session_id)
    try:
        manifest = decode_manifest(store.get(f"{folder}/{layout.MANIFEST}"))
    except MissingObjectError:
        return False
    _delete_leftovers(store, folder, manifest)
    return True


def write_part(store: Store, start: SessionStarted, cutter: PartCutter, audio: bytes) -> None:
    """Write a part's audio, then the notes that declare it written.

    A part whose audio was freed before it was read does not replace the one that an earlier try saved.

    Raises:
        ArchiveUnavailableError: if it isn't written.
    """
    name = layout.part_note(start.session_id, cutter.number)
    if cutter.has_missing_audio and _exists(store, name):
        return
    sha256 = sha256_of(audio)
    file = layout.part_audio(cutter.number, sha256) if audio else ""
    if file:
        store.put(f"{layout.folder(start.session_id)}/{file}", audio)
    part = Part(
        number=cutter.number, start_samples=cutter.start_samples, end_samples=cutter.end_samples,
        spans=tuple(cutter.spans), file=file, bytes=len(audio), sha256=sha256 if file else "",
    )  # fmt: skip
    note = PartNote(
        session_id=start.session_id, tenant_id=start.tenant_id, started_ms=start.started_ms, part=part,
        events=tuple(cutter.events),
    )  # fmt: skip
    store.put(name, encode_note(note))


def finish(store: Store, start: SessionStarted, cutter: PartCutter, facts: Sequence[Line], end: Ended) -> Manifest:
    """Write the events and facts, then the manifest; `cutter` is the last part's, which is written already.

    Raises:
        ArchiveUnavailableError: if it isn't written.
        DamagedArchiveError: if a part is missing, or was changed.
    """
    folder = layout.folder(start.session_id)
    notes = [_note(store, layout.part_note(start.session_id, number)) for number in range(cutter.number + 1)]
    parts = tuple(note.part for note in notes)
    events = _put_lines(store, folder, layout.EVENTS, [line for note in notes for line in note.events])
    manifest = Manifest(
        session_id=start.session_id, tenant_id=start.tenant_id, owner_id=start.owner_id, engine=start.engine,
        started_ms=start.started_ms, ended_ms=end.ended_ms, reason=end.reason, sample_rate_hz=start.sample_rate_hz,
        channels=start.channels, total_samples=cutter.end_samples, part_samples=cutter.part_samples,
        parts=parts, missing=find_missing(parts), events=events,
        facts=_put_lines(store, folder, layout.FACTS, facts), start=Raw(encode(start)),
    )  # fmt: skip
    store.put(layout.marker_name(start.tenant_id, start.started_ms, start.session_id), b"")
    store.put(f"{folder}/{layout.MANIFEST}", encode_manifest(manifest))
    _delete_leftovers(store, folder, manifest)
    return manifest


def erase(store: Store, session_id: str) -> int:
    """Delete all objects of a session; return how many that was. Harmless where none exists.

    Raises:
        ArchiveUnavailableError: if not all is deleted.
    """
    folder = layout.folder(session_id)
    for note in _read_origins(store, folder):
        store.delete(layout.marker_name(note.tenant_id, note.started_ms, session_id))
    return store.delete_folder(folder)


def _delete_leftovers(store: Store, folder: str, manifest: Manifest) -> None:
    """Delete the objects that the manifest doesn't name: notes on parts, and files of superseded writers."""
    needed = {layout.MANIFEST, manifest.events.file, manifest.facts.file, *(part.file for part in manifest.parts)}
    for name in list(store.names(folder)):
        if name.rpartition("/")[2] not in needed:
            store.delete(name)


def _read_origins(store: Store, folder: str) -> list[Manifest | PartNote]:
    """Return the documents that name a session's tenant and day, which its marker's name is made of."""
    found: list[Manifest | PartNote] = []
    for name in list(store.names(folder)):
        try:
            if name.endswith(f"/{layout.MANIFEST}"):
                found.append(decode_manifest(store.get(name)))
            elif layout.is_part_note(name):
                found.append(decode_note(store.get(name)))
        except (MissingObjectError, DamagedArchiveError):
            continue  # the others may name it, and damaged objects are deleted like all others
    return found


def _exists(store: Store, name: str) -> bool:
    try:
        store.get(name)
    except MissingObjectError:
        return False
    return True


def _note(store: Store, name: str) -> PartNote:
    try:
        return decode_note(store.get(name))
    except MissingObjectError as error:
        raise DamagedArchiveError(f"{name} is missing from the archive") from error


def _put_lines(store: Store, folder: str, file: str, lines: Sequence[Line]) -> Lines:
    content = encode_lines(lines)
    store.put(f"{folder}/{file}", content)
    return Lines(file=file, count=len(lines), bytes=len(content), sha256=sha256_of(content))
