"""The names of an archive's objects, each with slashes between its parts. Pure.

    sessions/<two hex digits>/<session>/manifest.json          the archive is complete: `eventlog.archive.manifest`
    sessions/<two hex digits>/<session>/000000-<SHA-256>.flac  audio of one part, named by its bytes too
    sessions/<two hex digits>/<session>/000000.json            notes on a part, until the manifest exists
    sessions/<two hex digits>/<session>/{events,facts}.jsonl   control events of the audio, facts of the live run
    index/date=<UTC>/tenant=<tenant>/<started, ms>-<session>   empty: finds sessions by day and tenant

A session is found by its id alone, and the sessions of a day or a tenant without looking at any other's manifest.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote

MANIFEST = "manifest.json"
EVENTS = "events.jsonl"
FACTS = "facts.jsonl"
SESSIONS = "sessions"
INDEX = "index"

MAX_SEGMENT_CHARS = 180
"""File systems take names of 255 bytes; a prefix, a time and a temporary name's random part go with some."""

_NUMBER = "{:06d}"  # 5 minutes each: 9 years


class Marker(NamedTuple):
    """The parts of an index marker's name."""

    day: str
    tenant: str
    """As `segment` writes it."""
    started_ms: int
    session: str
    """As `segment` writes it."""


def segment(text: str) -> str:
    """Return any text as one part of a name: no slash, never ``.`` or ``..``, and of bounded length."""
    quoted = quote(text, safe="")
    if len(quoted) > MAX_SEGMENT_CHARS:
        return f"{quoted[:100].rstrip('%')}~{hashlib.sha256(text.encode()).hexdigest()}"
    return quoted.replace(".", "%2E") if set(quoted) <= {"."} else quoted


def session_id_of(marker: Marker) -> str:
    """Return the session that a marker names; ids are far too short to be cut."""
    return unquote(marker.session)


def folder(session_id: str) -> str:
    """Return a session's folder; the digits before it keep folders short, and S3's keys spread."""
    digits = hashlib.sha256(session_id.encode()).hexdigest()[:2]
    return f"{SESSIONS}/{digits}/{segment(session_id)}"


def part_note(session_id: str, number: int) -> str:
    """Return the name of the notes on a part."""
    return f"{folder(session_id)}/{_NUMBER.format(number)}.json"


def part_audio(number: int, sha256: str) -> str:
    """Return the file of a part's audio; named by its bytes, so that two writers never mix up each other's."""
    return f"{_NUMBER.format(number)}-{sha256[:16]}.flac"


def is_part_note(name: str) -> bool:
    """Whether a name is that of notes on a part."""
    stem, _, kind = name.rpartition("/")[2].partition(".")
    return kind == "json" and stem.isdigit()


def day_of(started_ms: int) -> str:
    """Return the day of a time, UTC."""
    return datetime.fromtimestamp(started_ms / 1000, UTC).date().isoformat()


def day_folder(day: str) -> str:
    """Return the folder of a day's markers."""
    return f"{INDEX}/date={day}"


def tenant_folder(day: str, tenant_id: str) -> str:
    """Return the folder of the markers of a tenant's sessions of a day."""
    return f"{day_folder(day)}/tenant={segment(tenant_id)}"


def marker_name(tenant_id: str, started_ms: int, session_id: str) -> str:
    """Return the name of a session's marker."""
    return f"{tenant_folder(day_of(started_ms), tenant_id)}/{started_ms:013d}-{segment(session_id)}"


def parse_marker(name: str) -> Marker | None:
    """Return the parts of a marker's name, None if it is no such name."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != INDEX:  # noqa: PLR2004 - as in `marker_name`
        return None
    started, _, session = parts[3].partition("-")
    if not started.isdigit() or not parts[1].startswith("date=") or not parts[2].startswith("tenant="):
        return None
    return Marker(parts[1].removeprefix("date="), parts[2].removeprefix("tenant="), int(started), session)
