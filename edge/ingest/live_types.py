"""Bodies, parameters and answers of ``/live``, and the forms that other recordings share. No input or output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from edge import errors
from edge.contract.operations import JSON, Answer, Body, Parameter
from edge.ingest.formats import OPTIONS as OPTION_NAMES
from edge.session.options import (
    HANGOVER_MS,
    MAX_PROMPT_CHARACTERS,
    MAX_TERM_CHARACTERS,
    PARTIAL_INTERVAL_MS,
    SessionOptions,
)
from edge.session.parameters import LAYOUTS, SAMPLE_RATES_HZ, TRACKS
from eventlog.readmodel.documents import Document, ListedFinal, TimedWord, stitch
from eventlog.readmodel.feed import OpenUtterance
from eventlog.readmodel.views import Transcript

Mode = Literal["serving", "draining", "unavailable"]


class CurrentTranscript(msgspec.Struct, frozen=True, kw_only=True):
    """The finals, and the open utterances after them."""

    finals: list[ListedFinal]
    provisional: list[OpenUtterance]
    is_complete: bool
    """No text of the audio is missing."""


class LiveResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One utterance; times in seconds of audio."""

    utterance: int
    text: str
    speaker: str
    channel: int
    start: float
    end: float
    confidence: float
    provisional: bool
    """The utterance has not ended yet: the next answer may have another text."""
    language: str = ""
    """Of a final's text; absent if the recogniser does not report it."""
    words: tuple[TimedWord, ...] = ()
    """Of a final; absent if the recogniser gives no times."""


class LiveResults(msgspec.Struct, kw_only=True):
    """The transcript of a session's audio so far."""

    session_id: str
    complete: bool
    """The results cover all audio that the session had at the time of the request."""
    ended: bool
    reason: str | None
    """Reason of the end: `stop`, `closed`, `limit`, `idle`, `deleted`."""
    results: list[LiveResult]
    transcript: str
    """The finals' texts, joined."""
    transcript_url: str


class LiveUrls(msgspec.Struct, kw_only=True):
    """The addresses of a session."""

    audio: str
    results: str
    stop: str
    transcript: str
    events: str


class LiveStarted(msgspec.Struct, kw_only=True):
    """A session that was opened."""

    session_id: str
    encoding: str
    sample_rate: int
    channels: int
    """0: as many as the recording has."""
    language: str
    urls: LiveUrls
    options: SessionOptions


class OptionsChangedAt(msgspec.Struct, kw_only=True):
    """Options that were changed."""

    session_id: str
    offset: int
    """In samples per channel, or bytes of a container: they hold from the first boundary there or behind it."""


class ChunkAppended(msgspec.Struct):
    """A chunk that is durable."""

    session_id: str
    offset: int
    """Where the chunk ends, in bytes from the session's start."""
    end: int
    """Where the session's audio ends; further than `offset` if this was a retry."""


class LiveStatus(msgspec.Struct, kw_only=True):
    """The answer of ``/live/status``."""

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
    """Options of ``/live/start``, with the names and bounds of the query string."""

    sample_rate: Literal[8_000, 16_000, 24_000, 44_100, 48_000] | None = None
    encoding: Literal["linear16", "container"] | None = None
    channels: Literal[1, 2, "1", "2", "mix", "split", "auto"] | None = None
    track: Annotated[int, msgspec.Meta(ge=0, lt=100)] | None = None
    language: str | None = None
    model: str | None = None
    endpointing_ms: int | None = None
    hangover_ms: int | None = None
    """The older name of `endpointing_ms`."""
    partial_interval_ms: int | None = None
    terms: list[str] | None = None
    prompt: str | None = None
    numerals: bool | None = None
    profanity_filter: bool | None = None
    speech_events: bool | None = None


FAILURES = (errors.INVALID_AUDIO, errors.QUARANTINED, errors.UNSUPPORTED_LANGUAGE, errors.UNSUPPORTED_MODEL)
"""Errors of a session that ended as failed."""

INCOMPLETE = Answer(202, "The results so far, and the address of the complete transcript.", {JSON: LiveResults})

_PAUSE = {"type": "integer", "minimum": HANGOVER_MS[0], "maximum": HANGOVER_MS[-1]}

_SCHEMAS: dict[str, dict[str, Any]] = {
    "language": {"type": "string", "pattern": r"^([A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}|auto)?$"},
    "model": {"type": "string", "maxLength": 200},
    "channels": {"enum": [1, 2, *LAYOUTS]},
    "track": {"type": "integer", "minimum": TRACKS.start, "maximum": TRACKS.stop - 1},
    "sample_rate": {"type": "integer", "enum": list(SAMPLE_RATES_HZ)},
    "endpointing_ms": _PAUSE,
    "hangover_ms": _PAUSE,
    "partial_interval_ms": {
        "type": "integer", "minimum": PARTIAL_INTERVAL_MS[0], "maximum": PARTIAL_INTERVAL_MS[-1],
    },
    "terms": {"type": "string"},
    "term": {"type": "string", "maxLength": MAX_TERM_CHARACTERS},
    "prompt": {"type": "string", "maxLength": MAX_PROMPT_CHARACTERS},
    "numerals": {"type": "boolean"},
    "profanity_filter": {"type": "boolean"},
    "speech_events": {"type": "boolean"},
    "encoding": {"type": "string", "enum": ["linear16", "container"]},
}
_DESCRIPTIONS = {
    "language": "Language spoken: a tag, with hyphens or underscores, or `auto` to have it detected.",
    "model": "One of the models that the deployment offers.",
    "channels": "Channels of raw samples; of a container, 1 mixes them. `mix` or `split` says what becomes of two, "
    "`auto` leaves it to the speech on them.",
    "track": "Of a container's audio tracks, from 0; unless given, the one that it marks as default.",
    "sample_rate": "Of raw samples, Hz; 16000 unless given.",
    "endpointing_ms": "Pause that ends an utterance.",
    "hangover_ms": "The older name of `endpointing_ms`.",
    "partial_interval_ms": "Time between two partials of an utterance.",
    "terms": "Names and words that the speech may hold, with commas between them: at most 100, of 100 characters each "
    "and 2,000 in all.",
    "term": "One such term; may be repeated.",
    "prompt": "Text that the recogniser takes as said before.",
    "numerals": "Numbers as digits.",
    "profanity_filter": "Profanities masked.",
    "speech_events": "Also events `speech_started` and `utterance_end`.",
    "encoding": "Raw samples (16-bit little-endian) or a container; unless given, by content type and first bytes.",
}
OPTIONS = tuple(Parameter(name, "query", _SCHEMAS[name], _DESCRIPTIONS[name]) for name in OPTION_NAMES)


def recording_body(part: str, more: Mapping[str, Any] | None = None) -> Body:
    """Describe a body with a recording: a form with it as `part`, or its bytes alone."""
    binary = {"type": "string", "format": "binary", "minLength": 1}
    form = {
        "type": "object", "required": [part],
        "properties": {**(more or {}), **_SCHEMAS, part: binary},
    }  # fmt: skip
    return Body(
        {"multipart/form-data": form, "application/octet-stream": binary, "audio/*": binary},
        f"The recording: as part `{part}` of a form, whose fields come before it, or as the whole body.",
    )


def urls_of(session_id: str) -> LiveUrls:
    """Make the addresses of a session."""
    live, session = f"/live/{session_id}", f"/v1/sessions/{session_id}"
    return LiveUrls(
        audio=f"{live}/audio", results=f"{live}/results", stop=f"{live}/stop", transcript=f"{session}/transcript",
        events=f"{session}/events",
    )  # fmt: skip


def results_of_ended(session_id: str, document: Document | None) -> LiveResults:
    """Answer for a session that was sealed, with its document if it exists already."""
    return _results(
        session_id, document.utterances if document else [], complete=document is not None,
        reason=document.reason if document else None,
    )  # fmt: skip


def results_of_open(session_id: str, current: CurrentTranscript) -> LiveResults:
    """Answer for a session that continues."""
    results = _results(session_id, current.finals, complete=current.is_complete, reason=None)
    results.results += [_result(one, provisional=True) for one in current.provisional]
    return results


def results_of_finals(session_id: str, transcript: Transcript | None) -> LiveResults:
    """Answer with the finals that the List, or the document, holds now."""
    found = transcript or Transcript(is_final=False, transcript="", utterances=[])
    results = _results(session_id, found.utterances, complete=found.is_final, reason=None)
    results.ended = found.is_final
    return results


def _results(
    session_id: str, utterances: list[ListedFinal], *, complete: bool, reason: str | None
) -> LiveResults:
    return LiveResults(
        session_id=session_id, complete=complete, ended=reason is not None, reason=reason,
        results=[_result(one, provisional=False) for one in utterances], transcript=stitch(utterances),
        transcript_url=urls_of(session_id).transcript,
    )  # fmt: skip


def _result(utterance: ListedFinal | OpenUtterance, *, provisional: bool) -> LiveResult:
    return LiveResult(
        utterance=utterance.utterance, text=utterance.text, speaker=utterance.speaker, channel=utterance.channel,
        start=utterance.start, end=utterance.end, confidence=utterance.confidence, provisional=provisional,
        language=utterance.language if isinstance(utterance, ListedFinal) else "",
        words=utterance.words if isinstance(utterance, ListedFinal) else (),
    )  # fmt: skip
