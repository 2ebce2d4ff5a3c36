"""Events as Kafka's records hold them: which topic, which headers, and the types of their values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from projections.integration_events import Event, Kind

TRANSCRIPTS = "stenolog.transcripts"
BATCHES = "stenolog.batches"

TOPICS = {
    Kind.UTTERANCE: TRANSCRIPTS,
    Kind.SESSION_ENDED: TRANSCRIPTS,
    Kind.BATCH_COMPLETED: BATCHES,
    Kind.BATCH_FAILED: BATCHES,
}
"""Where each type goes."""

ID_HEADER = "event_id"
TYPE_HEADER = "event_type"
VERSION_HEADER = "event_version"
TENANT_HEADER = "tenant_id"

_MS = 1000


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that are not known yet are skipped, so that an older subscriber reads what a newer Stenolog sends."""

    version: str
    tenant_id: str


class TranscriptUtterance(_Record, frozen=True, kw_only=True):
    """One final utterance; times in seconds of audio since the session's start."""

    session_id: str
    utterance: int
    text: str
    start: float
    end: float
    decided: float
    confidence: float
    speaker: str
    channel: int


class TranscriptEnded(_Record, frozen=True, kw_only=True):
    """A session is over; it had so many utterances."""

    session_id: str
    reason: str
    utterances: int
    audio_seconds: float
    ended_at: str
    transcript_url: str


class BatchTexts(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording says: as recognised, and made readable."""

    raw_transcript: str
    cleaned_transcript: str


class BatchTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why a recording has no transcript."""

    reason: str
    detail: str


class _Batch(_Record, frozen=True, kw_only=True):
    interaction_id: str
    user_id: str
    account_id: str | None
    timestamp: str


class BatchProcessingCompleted(_Batch, frozen=True, kw_only=True):
    """A recorded file is transcribed."""

    status: Literal["completed"]
    data: BatchTexts


class BatchProcessingFailed(_Batch, frozen=True, kw_only=True):
    """A recorded file could not be transcribed."""

    status: Literal["failed"]
    data: BatchTrouble


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """A record that this version doesn't know or can't read; a subscriber passes over it."""

    reason: str


Record = TranscriptUtterance | TranscriptEnded | BatchProcessingCompleted | BatchProcessingFailed

TYPES: dict[str, type[Record]] = {
    Kind.UTTERANCE: TranscriptUtterance,
    Kind.SESSION_ENDED: TranscriptEnded,
    Kind.BATCH_COMPLETED: BatchProcessingCompleted,
    Kind.BATCH_FAILED: BatchProcessingFailed,
}
"""The type of a value by what the header `event_type` says."""


def record_of(event: Event) -> Record:
    """The event's body as a record.

    Raises:
        msgspec.ValidationError: if it is none; the text names the field, not what is in it.
    """
    return msgspec.convert(event.body, TYPES[event.kind])


def headers_of(event: Event) -> dict[str, bytes]:
    """What a subscriber may want to know before it looks at the value; the id is the same each time it is sent."""
    return {
        ID_HEADER: event.event_id.encode(), TYPE_HEADER: event.kind.encode(),
        VERSION_HEADER: str(event.body["version"]).encode(), TENANT_HEADER: event.tenant_id.encode(),
    }


def timestamp_s(event: Event) -> float | None:
    """When it was stated, Unix seconds: the record's own time, so that windows hold what was said then; or unknown."""
    return event.occurred_ms / _MS or None


def header(headers: Iterable[tuple[str, bytes]] | Mapping[str, bytes] | None, name: str) -> str:
    """One header's value; empty if it isn't there or no text."""
    return dict(headers or ()).get(name, b"").decode(errors="replace")


def read(kind: str, payload: Any) -> Record | Unread:  # noqa: ANN401 - whatever was in the JSON
    """The record of a type that is in a decoded value, or why it can't be read."""
    if kind not in TYPES:
        return Unread(reason=f"no known type: {kind[:64]!r}")
    try:
        return msgspec.convert(payload, TYPES[kind])
    except msgspec.ValidationError as error:
        return Unread(reason=f"no {kind}: {error}")
