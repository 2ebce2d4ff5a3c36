"""What goes in and out under ``/live``, as types. No input or output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from edge.contract.operations import JSON, Answer, Body, Parameter
from edge.ingest.formats import OPTIONS as OPTION_NAMES
from edge.session.parameters import HANGOVER_MS, SAMPLE_RATES_HZ
from eventlog.readmodel.documents import Document, ListedFinal, stitch
from eventlog.readmodel.feed import OpenUtterance
from eventlog.readmodel.views import Transcript

Mode = Literal["serving", "draining", "unavailable"]


class SoFar(msgspec.Struct, frozen=True, kw_only=True):
    """The finals, and the open utterances after them; `is_all`: nothing of the audio is missing."""

    finals: list[ListedFinal]
    provisional: list[OpenUtterance]
    is_all: bool


class LiveResult(msgspec.Struct, kw_only=True):
    """One utterance; times in seconds of audio."""

    utterance: int
    text: str
    speaker: str
    channel: int
    start: float
    end: float
    confidence: float
    provisional: bool
    """It has not ended yet: the next answer may read differently."""


class LiveResults(msgspec.Struct, kw_only=True):
    """What is known of a session's audio."""

    session_id: str
    complete: bool
    """All audio that was there when it was asked for is in the results."""
    ended: bool
    reason: str | None
    """Why it ended: `stop`, `limit`, `idle`, `deleted`."""
    results: list[LiveResult]
    transcript: str
    """The finals' texts, joined."""
    transcript_url: str


class LiveUrls(msgspec.Struct, kw_only=True):
    """Where to go on."""

    audio: str
    results: str
    stop: str
    transcript: str
    events: str


class LiveStarted(msgspec.Struct):
    """A session that was opened."""

    session_id: str
    encoding: str
    sample_rate: int
    channels: int
    """0: as many as the recording has."""
    language: str
    urls: LiveUrls


class Taken(msgspec.Struct):
    """A chunk that is durable."""

    session_id: str
    offset: int
    """Where the chunk ends, in bytes from the session's start."""
    end: int
    """Where the session's audio ends; further than `offset` if this was a retry."""


class LiveStatus(msgspec.Struct, kw_only=True):
    """What ``/live/status`` says."""

    mode: Mode
    version: str
    engine: str
    replica_friendly: bool
    """Any replica can take the next request of any session."""
    replicas: int
    active_sessions: int | None
    """Over all replicas; null while Redis can't be reached."""
    endpoints_available: list[str]


class StartOptions(msgspec.Struct, kw_only=True):
    """What ``/live/start`` may be asked for; the query string's names and bounds."""

    sample_rate: Literal[8_000, 16_000, 24_000, 44_100, 48_000] | None = None
    encoding: Literal["linear16", "container"] | None = None
    channels: Literal[1, 2] | None = None
    language: str | None = None
    hangover_ms: int | None = None


NOT_YET = Answer(202, "Not all of it yet: what there is, and where the rest will be.", {JSON: LiveResults})

_SCHEMAS: dict[str, dict[str, Any]] = {
    "language": {"type": "string", "pattern": r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$"},
    "channels": {"type": "integer", "enum": [1, 2]},
    "sample_rate": {"type": "integer", "enum": list(SAMPLE_RATES_HZ)},
    "hangover_ms": {"type": "integer", "minimum": HANGOVER_MS.start, "maximum": HANGOVER_MS.stop - 1},
    "encoding": {"type": "string", "enum": ["linear16", "container"]},
}
_WORDS = {
    "language": "Language spoken.",
    "channels": "Channels of bare samples; of a container, 1 mixes them.",
    "sample_rate": "Of bare samples, Hz; 16000 if it isn't given.",
    "hangover_ms": "Pause that ends an utterance.",
    "encoding": "Bare samples (16-bit little-endian) or a container; unless given, by content type and first bytes.",
}
OPTIONS = tuple(Parameter(name, "query", _SCHEMAS[name], _WORDS[name]) for name in OPTION_NAMES)


def recording(part: str, more: Mapping[str, Any] | None = None) -> Body:
    """A body that brings a recording: a form with it as `part`, or its bare bytes."""
    binary = {"type": "string", "format": "binary", "minLength": 1}
    form = {
        "type": "object", "required": [part],
        "properties": {**(more or {}), **_SCHEMAS, part: binary},
    }  # fmt: skip
    return Body(
        {"multipart/form-data": form, "application/octet-stream": binary, "audio/*": binary},
        f"The recording: as part `{part}` of a form, whose fields come before it, or as it is.",
    )


def urls_of(session_id: str) -> LiveUrls:
    """Where a session's neighbours are."""
    live, session = f"/live/{session_id}", f"/v1/sessions/{session_id}"
    return LiveUrls(
        audio=f"{live}/audio", results=f"{live}/results", stop=f"{live}/stop", transcript=f"{session}/transcript",
        events=f"{session}/events",
    )  # fmt: skip


def ended(session_id: str, document: Document | None) -> LiveResults:
    """A session that was sealed, with its document if it is there."""
    return _results(
        session_id, document.utterances if document else [], complete=document is not None,
        reason=document.reason if document else None,
    )  # fmt: skip


def so_far(session_id: str, known: SoFar) -> LiveResults:
    """A session that goes on."""
    results = _results(session_id, known.finals, complete=known.is_all, reason=None)
    results.results += [_result(one, provisional=True) for one in known.provisional]
    return results


def finals(session_id: str, transcript: Transcript | None) -> LiveResults:
    """What the List, or the document, holds now."""
    known = transcript or Transcript(is_final=False, transcript="", utterances=[])
    results = _results(session_id, known.utterances, complete=known.is_final, reason=None)
    results.ended = known.is_final
    return results


def _results(
    session_id: str, utterances: list[ListedFinal], *, complete: bool, reason: str | None
) -> LiveResults:
    return LiveResults(
        session_id=session_id, complete=complete, ended=reason is not None, reason=reason,
        results=[_result(one, provisional=False) for one in utterances], transcript=stitch(utterances),
        transcript_url=urls_of(session_id).transcript,
    )  # fmt: skip


def _result(one: ListedFinal | OpenUtterance, *, provisional: bool) -> LiveResult:
    return LiveResult(
        utterance=one.utterance, text=one.text, speaker=one.speaker, channel=one.channel, start=one.start, end=one.end,
        confidence=one.confidence, provisional=provisional,
    )  # fmt: skip
