"""Records of Kafka made of events: their topics, headers, and types of values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from eventlog.readmodel.documents import TimedWord
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
    """Unknown fields are skipped, so that an older subscriber reads the records of a newer Stenolog."""

    version: str
    tenant_id: str


class SpokenWord(TimedWord, frozen=True, kw_only=True):
    """One word of a recording, and its speaker."""

    speaker: str


class TranscriptUtterance(_Record, frozen=True, kw_only=True, omit_defaults=True):
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
    language: str = ""
    """Of the text; absent if the recogniser does not report it."""
    words: tuple[TimedWord, ...] = ()
    """In order; absent unless the deployment forwards them."""


class TranscriptEnded(_Record, frozen=True, kw_only=True):
    """A session is over; it had so many utterances."""

    session_id: str
    reason: str
    utterances: int
    audio_seconds: float
    ended_at: str
    transcript_url: str


class BatchTexts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The text of a recording: as recognised, and made readable."""

    raw_transcript: str
    cleaned_transcript: str
    words: tuple[SpokenWord, ...] = ()
    """Of the raw transcript, in order; absent unless the deployment forwards them, or if they are too large."""


class BatchFailure(msgspec.Struct, frozen=True, kw_only=True):
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
    data: BatchFailure


class UnreadableRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of an unknown type, or a malformed one; a subscriber skips it."""

    reason: str


Record = TranscriptUtterance | TranscriptEnded | BatchProcessingCompleted | BatchProcessingFailed

TYPES: dict[str, type[Record]] = {
    Kind.UTTERANCE: TranscriptUtterance,
    Kind.SESSION_ENDED: TranscriptEnded,
    Kind.BATCH_COMPLETED: BatchProcessingCompleted,
    Kind.BATCH_FAILED: BatchProcessingFailed,
}
"""The type of a value by what the header `event_type` says."""


def make_record(event: Event) -> Record:
    """Make the record of an event's body.

    Raises:
        msgspec.ValidationError: if the body doesn't fit; the text names the field, not its value.
    """
    return msgspec.convert(event.body, TYPES[event.kind])


def make_headers(event: Event) -> dict[str, bytes]:
    """Make the headers, for subscribers to read before the value; the id is the same each time an event is sent."""
    return {
        ID_HEADER: event.event_id.encode(), TYPE_HEADER: event.kind.encode(),
        VERSION_HEADER: str(event.body["version"]).encode(), TENANT_HEADER: event.tenant_id.encode(),
    }


def timestamp_s(event: Event) -> float | None:
    """The record's time, Unix seconds: when its fact was stated, so that windows hold the speech of then; or None."""
    return event.occurred_ms / _MS or None


def read_header(headers: Iterable[tuple[str, bytes]] | Mapping[str, bytes] | None, name: str) -> str:
    """Read one header's value; empty if it is missing or no text."""
    return dict(headers or ()).get(name, b"").decode(errors="replace")


def read_record(kind: str, payload: Any) -> Record | UnreadableRecord:  # noqa: ANN401 - any JSON
    """Read the record of a type from a decoded value, or say why it can't be read."""
    if kind not in TYPES:
        return UnreadableRecord(reason=f"no known type: {kind[:64]!r}")
    try:
        return msgspec.convert(payload, TYPES[kind])
    except msgspec.ValidationError as error:
        return UnreadableRecord(reason=f"no {kind}: {error}")
