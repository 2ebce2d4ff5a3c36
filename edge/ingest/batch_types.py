"""What goes in and out under ``/batch``, as types. No input or output."""

from __future__ import annotations

import msgspec

from edge.contract.operations import Parameter
from edge.ingest.identity import ACCOUNT_HEADER, TENANT_HEADER, USER_HEADER, Identity
from eventlog.events import SessionStarted
from eventlog.readmodel.documents import Document, ListedFinal
from eventlog.readmodel.statuses import StatusMessage


class Segment(msgspec.Struct, kw_only=True):
    """One utterance as it was said; times in seconds of audio."""

    utterance: int
    start: float
    end: float
    text: str
    speaker: str
    channel: int
    confidence: float


class BatchResult(msgspec.Struct, kw_only=True):
    """A recording that is processed."""

    interaction_id: str
    """Also the id of its session, under which all else is to be had."""
    raw_transcript: str
    """What was said, word by word."""
    cleaned_transcript: str
    """What is read: without fillers and stutters, in sentences and paragraphs."""
    segments: list[Segment]
    tenant_id: str
    user_id: str | None
    """Null for a session that came another way than by `/batch/process`; so is `account_id`."""
    account_id: str | None
    reason: str
    """`stop` if all of it is processed, `limit` if it is longer than any may be and was cut off there."""
    language: str | None
    audio_seconds: float
    completed_at: str
    """ISO 8601, UTC."""
    transcript_url: str
    """The transcript as JSON, text, SRT or WebVTT, by `Accept`."""


class BatchPending(msgspec.Struct, kw_only=True):
    """A recording that is on its way."""

    interaction_id: str
    tenant_id: str
    user_id: str | None
    account_id: str | None
    result_url: str
    """Answers 200 once it is processed, 202 before."""
    status_url: str
    """Server-sent events of how far it is."""
    transcript_url: str
    events_url: str
    """Server-sent events of what is said."""
    status: StatusMessage | None
    """How far it is now; null if that isn't known yet."""


PREFER = Parameter(
    "Prefer", "header", {"type": "string"},
    "`respond-async`: answer 202 once the recording is durable. `wait=N`: answer so after N seconds at the latest.",
)
IDENTITY = (
    Parameter(
        TENANT_HEADER, "header", {"type": "string"},
        "Tenant, a UUID v4; one that is malformed is replaced. A token's claim wins.",
    ),
    Parameter(USER_HEADER, "header", {"type": "string"}, "User: at most 255 printable ASCII characters without spaces. "
              "A token's subject wins."),
    Parameter(ACCOUNT_HEADER, "header", {"type": "string"}, "Account, of the same characters. A token's claim wins."),
)  # fmt: skip


def whose(start: SessionStarted) -> Identity | None:
    """On whose behalf a recording is processed; None for a session that is none."""
    batch = start.batch
    return None if batch is None else Identity(start.tenant_id, batch.user_id, batch.account_id)


def result(start: SessionStarted, document: Document) -> BatchResult:
    """What is said of a session that has ended with a transcript."""
    identity, session_id = whose(start), start.session_id
    return BatchResult(
        interaction_id=session_id, raw_transcript=document.transcript, cleaned_transcript=document.cleaned,
        segments=[_segment(one) for one in document.utterances], tenant_id=start.tenant_id,
        user_id=identity and identity.user_id, account_id=identity and identity.account_id, reason=document.reason,
        language=document.language, audio_seconds=document.audio_seconds, completed_at=document.ended_at,
        transcript_url=f"/v1/sessions/{session_id}/transcript",
    )  # fmt: skip


def pending(start: SessionStarted, status: StatusMessage | None = None) -> BatchPending:
    """Where the result will be, and where to hear of it meanwhile."""
    identity, session_id = whose(start), start.session_id
    session = f"/v1/sessions/{session_id}"
    return BatchPending(
        interaction_id=session_id, tenant_id=start.tenant_id, user_id=identity and identity.user_id,
        account_id=identity and identity.account_id, result_url=result_url(session_id),
        status_url=f"/api{session}/status/stream", transcript_url=f"{session}/transcript",
        events_url=f"{session}/events", status=status,
    )  # fmt: skip


def result_url(session_id: str) -> str:
    """Where a recording's result is."""
    return f"/batch/{session_id}"


def _segment(one: ListedFinal) -> Segment:
    return Segment(
        utterance=one.utterance, start=one.start, end=one.end, text=one.text, speaker=one.speaker, channel=one.channel,
        confidence=one.confidence,
    )  # fmt: skip
