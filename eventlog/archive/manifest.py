"""An archived session's documents: notes on each part, and the manifest, with which the archive is complete. Pure.

Names carry their version; fields may be added with a default. A change of meaning takes a new name, and this module
continues to read the older one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventlog.codec import decode_start
from eventlog.events import SessionStarted


class DamagedArchiveError(Exception):
    """An object of the archive is missing, or was changed; the message names it, never its content."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The audio of some minutes; the cut depends on the position alone, so that each writer cuts alike.

    Attributes:
        number: Counted from 0.
        start_samples: Where it begins.
        end_samples: Where the next one begins, or the session ends.
        spans: The stretches (start, end) whose samples the file holds, one after the other; the rest is missing.
        file: Name of the FLAC file in the session's folder; empty if the part has no sample.
        bytes: Length of that file.
        sha256: Of that file, hexadecimal.
    """

    number: int
    start_samples: int
    end_samples: int
    spans: tuple[tuple[int, int], ...] = ()
    file: str = ""
    bytes: int = 0
    sha256: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A control event of the audio, or a fact, unchanged from its stream."""

    id: str
    event: msgspec.Raw
    at_ms: int = 0
    """Redis's clock when it was appended; 0 for a fact."""


class PartNote(msgspec.Struct, frozen=True, kw_only=True, tag_field="archive", tag="archive_part.v1"):
    """A written part of a session whose archive isn't complete yet."""

    session_id: str
    tenant_id: str
    started_ms: int
    part: Part
    events: tuple[Line, ...] = ()


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """A file of JSON lines."""

    file: str
    count: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, tag_field="archive", tag="archive_manifest.v1"):
    """Everything archived of a session; it is written last, so where it exists, everything exists.

    Attributes:
        session_id: The session.
        tenant_id: Its tenant.
        owner_id: Subject of the token that opened it; empty without authentication.
        engine: The live run's recogniser.
        started_ms: Wall clock of its start, Unix ms.
        ended_ms: Wall clock of the live run's last fact, Unix ms.
        reason: How it ended.
        sample_rate_hz: Of the audio.
        channels: Of the audio; 0 if it has none.
        total_samples: Where it ends, per channel.
        part_samples: Between two cuts.
        parts: The audio, in order.
        missing: Stretches (start, end) of audio that is lost.
        events: The control events, with their positions.
        facts: The facts of the live run.
        start: The event that it started with: every setting that was pinned.
    """

    session_id: str
    tenant_id: str
    owner_id: str
    engine: str
    started_ms: int
    ended_ms: int
    reason: str
    sample_rate_hz: int
    channels: int
    total_samples: int
    part_samples: int
    parts: tuple[Part, ...]
    missing: tuple[tuple[int, int], ...]
    events: Lines
    facts: Lines
    start: msgspec.Raw

    @property
    def started(self) -> SessionStarted:
        """`start`, decoded.

        Raises:
            UndecodableEventError: if this build does not know it.
        """
        return decode_start(bytes(self.start))


def encode_note(note: PartNote) -> bytes:
    """Return the stored form, its events unchanged to the byte."""
    return msgspec.json.encode(note)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the stored form: JSON that people can read too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_note(data: bytes) -> PartNote:
    """Decode notes on a part.

    Raises:
        DamagedArchiveError: if this build does not know them.
    """
    try:
        return msgspec.json.decode(data, type=PartNote)
    except msgspec.MsgspecError as error:
        raise DamagedArchiveError("the notes on a part can't be read") from error


def decode_manifest(data: bytes) -> Manifest:
    """Decode a manifest.

    Raises:
        DamagedArchiveError: if this build does not know it.
    """
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise DamagedArchiveError("the manifest can't be read, or is of a newer version") from error


def encode_lines(lines: Sequence[Line]) -> bytes:
    """Return one line for each."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def decode_lines(data: bytes) -> list[Line]:
    """Decode lines that `encode_lines` made.

    Raises:
        DamagedArchiveError: if one can't be read.
    """
    try:
        return [msgspec.json.decode(line, type=Line) for line in data.splitlines()]
    except msgspec.MsgspecError as error:
        raise DamagedArchiveError("a line can't be read") from error


def find_missing(parts: Sequence[Part]) -> tuple[tuple[int, int], ...]:
    """Return the stretches without samples between the spans of consecutive parts."""
    found: list[tuple[int, int]] = []
    at = 0
    ends = [(part.end_samples, part.end_samples) for part in parts[-1:]]
    for start, end in (*(span for part in parts for span in part.spans), *ends):
        if start > at:
            found.append((at, start))
        at = max(at, end)
    return tuple(found)
