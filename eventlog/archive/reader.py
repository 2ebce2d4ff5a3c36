"""Reads archived sessions back, as the entries that their audio streams had, and verifies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventlog.archive import layout
from eventlog.archive.flac import decode_flac, sha256_of
from eventlog.archive.manifest import (
    DamagedArchiveError,
    Line,
    Lines,
    Manifest,
    Part,
    decode_lines,
    decode_manifest,
)
from eventlog.archive.stores import MissingObjectError, Store
from eventlog.log import AudioEntry
from eventlog.positions import Position

CHUNK_BYTES = 65_536
"""Of one entry at most: two seconds of 16 kHz, after which a worker that segments them turns to other runs too."""

_SAMPLE_BYTES = 2


def read_manifest(store: Store, session_id: str) -> Manifest:
    """Return the manifest of an archived session.

    Raises:
        MissingObjectError: if the session isn't archived, or not completely yet.
        DamagedArchiveError: if it can't be read, or is another session's.
        ArchiveUnavailableError: if the store can't be read.
    """
    manifest = decode_manifest(store.get(f"{layout.folder(session_id)}/{layout.MANIFEST}"))
    if manifest.session_id != session_id:
        raise DamagedArchiveError("the manifest is another session's")
    return manifest


def read_lines(store: Store, manifest: Manifest, which: Lines) -> list[Line]:
    """Return the control events, or the facts.

    Raises:
        DamagedArchiveError: if they are missing, or were changed.
        ArchiveUnavailableError: if the store can't be read.
    """
    return decode_lines(_checked(store, manifest, which.file, which.sha256))


def read_entries(store: Store, manifest: Manifest, after: Position) -> Iterator[AudioEntry]:
    """Yield the entries after a position, in order: control events where they stood, samples in bounded chunks.

    Never more than one part's file is kept. Chunks aren't those that a client sent, which no decision depends on.

    Raises:
        DamagedArchiveError: as soon as an object is missing, or was changed.
        ArchiveUnavailableError: if the store can't be read; start again after the last entry that was taken.
    """
    events = [_entry(line) for line in read_lines(store, manifest, manifest.events)]
    events = [entry for entry in events if entry.position > after]
    for part in manifest.parts:
        if part.end_samples <= after.offset or not part.file:
            continue
        for end, pcm in _chunks(store, manifest, part, after.offset, [entry.position.offset for entry in events]):
            while events and events[0].position < (end, 0):
                yield events.pop(0)
            yield AudioEntry(Position(end, 0), pcm, None, 0)
    yield from events


def verify(store: Store, manifest: Manifest) -> list[str]:
    """Return the faults of a session's objects, a line each; none if all objects are unchanged.

    Raises:
        ArchiveUnavailableError: if the store can't be read.
    """
    faults: list[str] = []
    for lines in (manifest.events, manifest.facts):
        try:
            found = len(read_lines(store, manifest, lines))
        except DamagedArchiveError as error:
            faults.append(str(error))
            continue
        if found != lines.count:
            faults.append(f"{lines.file}: {found} lines in place of {lines.count}")
    for part in manifest.parts:
        if part.file:
            faults += _faults(store, manifest, part)
    return faults


def _faults(store: Store, manifest: Manifest, part: Part) -> list[str]:
    try:
        found_bytes = sum(map(len, decode_flac(_checked(store, manifest, part.file, part.sha256))))
    except DamagedArchiveError as error:
        return [f"{part.file}: {error}"]
    expected = sum(end - start for start, end in part.spans) * manifest.channels * _SAMPLE_BYTES
    return [f"{part.file}: other than {expected} bytes of samples"] if found_bytes != expected else []


def _chunks(
    store: Store, manifest: Manifest, part: Part, after: int, events: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield a part's samples after an offset, each piece with its end; cut wherever an event stands."""
    frame_bytes = _SAMPLE_BYTES * manifest.channels
    pcm = _PcmReader(decode_flac(_checked(store, manifest, part.file, part.sha256)), part.file)
    cuts = iter(sorted({offset for offset in events if offset > max(after, part.start_samples)}))
    cut = next(cuts, None)
    for start, end in part.spans:
        at = start
        while at < end:
            while cut is not None and cut <= at:
                cut = next(cuts, None)
            upto = min(end, at + CHUNK_BYTES // frame_bytes, end if cut is None else cut)
            if at < after:
                upto = min(upto, after)
            piece = pcm.take((upto - at) * frame_bytes)
            if upto > after:
                yield upto, piece
            at = upto
    pcm.expect_end()


class _PcmReader:
    """Decoded frames, taken in pieces of any length."""

    def __init__(self, frames: Iterator[bytes], file: str) -> None:
        self._frames = frames
        self._file = file
        self._rest = b""

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        pieces, have = [self._rest], len(self._rest)
        while have < length:
            frame = next(self._frames, b"")
            if not frame:
                raise DamagedArchiveError(f"{self._file} holds less audio than its manifest says")
            pieces.append(frame)
            have += len(frame)
        joined = b"".join(pieces)
        self._rest = joined[length:]
        return joined[:length]

    def expect_end(self) -> None:
        """Raise if the file holds more."""
        if self._rest or next(self._frames, b""):
            raise DamagedArchiveError(f"{self._file} holds more audio than its manifest says")


def _entry(line: Line) -> AudioEntry:
    try:
        return AudioEntry(Position.parse(line.id), None, bytes(line.event), line.at_ms)
    except ValueError as error:
        raise DamagedArchiveError("an event has no position") from error


def _checked(store: Store, manifest: Manifest, file: str, sha256: str) -> bytes:
    try:
        content = store.get(f"{layout.folder(manifest.session_id)}/{file}")
    except MissingObjectError as error:
        raise DamagedArchiveError(f"{file} is missing from the archive") from error
    if sha256_of(content) != sha256:
        raise DamagedArchiveError(f"{file} was changed: its SHA-256 differs")
    return content
