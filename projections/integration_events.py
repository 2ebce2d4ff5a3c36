"""The events that sinks get, made of a run's facts alone: the same facts make the same bytes. Pure."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from eventlog.events import Fact, HoleNoted, ProgressNoted, SessionEnded, SessionOpened, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.positions import Position
from eventlog.readmodel.documents import ListedFinal
from eventlog.readmodel.statuses import FAILURES, format_iso
from projections.cleaning import clean
from projections.public_json import to_listed_final, to_seconds

VERSION = "1.0"
"""Of every body below; a change that a consumer could notice takes another."""

_NAMESPACE = uuid.UUID("6d0f2c1e-4f7b-5b0a-9c39-2f1d7f0f7a55")  # drawn once; never changes, or ids would

WORDS = "words"
"""The field of a body that only some deployments want, since it is several times as large as all others."""

_UNFINISHED = FAILURES | {"idle"}
"""Reasons of a recording's end before its audio is complete: one that falls idle lost its edge before that."""


class Kind(enum.StrEnum):
    """Types of events, named as sinks name them."""

    BATCH_COMPLETED = "BatchProcessingCompleted"
    BATCH_FAILED = "BatchProcessingFailed"
    UTTERANCE = "TranscriptUtterance"
    SESSION_ENDED = "TranscriptEnded"
    AUDIO_PROCESSED = "AudioProcessed"
    """For the archive alone: audio may be taken up to there."""

    @property
    def needs_finals(self) -> bool:
        """Whether its body holds the whole transcript."""
        return self is Kind.BATCH_COMPLETED


EXTERNAL_KINDS = tuple(kind for kind in Kind if kind is not Kind.AUDIO_PROCESSED)
"""Those that leave the deployment."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event, whichever sink sends it.

    Attributes:
        event_id: The same for the same event each time that it is sent.
        kind: Its type.
        session_id: The session that it is about; also the key that keeps order.
        tenant_id: Its session's tenant.
        occurred_ms: When its fact was stated, Unix ms.
        body: The content, of builtin types.
    """

    event_id: str
    kind: Kind
    session_id: str
    tenant_id: str
    occurred_ms: int
    body: dict[str, Any]


def event_id(keys: RunKeys, position: Position, kind: Kind) -> str:
    """The stable id of an event: a UUID v5 of run, position and kind."""
    return str(uuid.uuid5(_NAMESPACE, f"{keys.member} {position} {kind}"))


def batch_kinds(opened: SessionOpened, fact: Fact) -> tuple[Kind, ...]:
    """The event of a recorded file's end (BATCH-4), exactly one for each; nothing else."""
    if opened.batch is None or not isinstance(fact, SessionEnded):
        return ()
    return (Kind.BATCH_FAILED if fact.reason in _UNFINISHED else Kind.BATCH_COMPLETED,)


def transcript_kinds(_: SessionOpened, fact: Fact) -> tuple[Kind, ...]:
    """Each utterance, and the end of every session."""
    if isinstance(fact, UtteranceFinal):
        return (Kind.UTTERANCE,)
    return (Kind.SESSION_ENDED,) if isinstance(fact, SessionEnded) else ()


def archive_kinds(_: SessionOpened, fact: Fact) -> tuple[Kind, ...]:
    """Each fact that states up to where the audio is processed."""
    is_one = isinstance(fact, SessionEnded | UtteranceFinal | ProgressNoted | HoleNoted)
    return (Kind.AUDIO_PROCESSED,) if is_one else ()


def make_event(
    kind: Kind, keys: RunKeys, opened: SessionOpened, at: tuple[Position, Fact], finals: Sequence[UtteranceFinal] = (),
    *, with_words: bool = False,
) -> Event:  # fmt: skip
    """The event of `kind` that the fact at its position gives rise to.

    `finals` are all of the run where the kind needs them; `with_words` adds each word with its times.

    Raises:
        ValueError: if the fact gives rise to no such event.
    """
    position, fact = at
    match kind, fact:
        case Kind.BATCH_COMPLETED | Kind.BATCH_FAILED, SessionEnded() if opened.batch is not None:
            occurred_ms = fact.ended_ms
            body: dict[str, Any] = {
                "version": VERSION, "interaction_id": opened.session_id, "tenant_id": opened.tenant_id,
                "user_id": opened.batch.user_id, "account_id": opened.batch.account_id,
                "timestamp": format_iso(fact.ended_ms),
            }  # fmt: skip
            if kind is Kind.BATCH_FAILED:
                body |= {"status": "failed", "data": {"reason": fact.reason, "detail": fact.detail}}
            else:
                said = [to_listed_final(final) for final in finals]
                raw, cleaned = " ".join(one.text for one in said), clean(said, opened.language)
                data: dict[str, Any] = {"raw_transcript": raw, "cleaned_transcript": cleaned}
                if with_words and (words := _words(said)):
                    data[WORDS] = words
                body |= {"status": "completed", "data": data}
        case Kind.UTTERANCE, UtteranceFinal():
            body = {"version": VERSION, "session_id": keys.session_id, "tenant_id": opened.tenant_id,
                    **msgspec.to_builtins(to_listed_final(fact))}  # fmt: skip
            body.pop("type")
            if not with_words:
                body.pop(WORDS, None)
            occurred_ms = fact.committed_ms
        case Kind.SESSION_ENDED, SessionEnded():
            body = _ended(keys, opened, fact)
            occurred_ms = fact.ended_ms
        case Kind.AUDIO_PROCESSED, SessionEnded() | UtteranceFinal() | ProgressNoted() | HoleNoted():
            body, occurred_ms = _processed(fact), 0
        case _:
            raise ValueError(f"no {kind} of a {type(fact).__name__}")
    return Event(
        event_id=event_id(keys, position, kind), kind=kind, session_id=keys.session_id, tenant_id=opened.tenant_id,
        occurred_ms=occurred_ms, body=body,
    )  # fmt: skip


def _words(said: Sequence[ListedFinal]) -> list[dict[str, Any]]:
    """All words of a transcript, each with its speaker."""
    return [{**msgspec.to_builtins(word), "speaker": final.speaker} for final in said for word in final.words]


def drop_words(event: Event) -> Event | None:
    """The event without its words, for a sink that can't take one as large; None if it has none."""
    data = event.body.get("data", event.body)
    if WORDS not in data:
        return None
    rest = {name: value for name, value in data.items() if name != WORDS}
    return msgspec.structs.replace(event, body={**event.body, "data": rest} if data is not event.body else rest)


def _processed(fact: SessionEnded | UtteranceFinal | ProgressNoted | HoleNoted) -> dict[str, Any]:
    match fact:
        case UtteranceFinal():
            return {"samples": fact.decided_samples}
        case ProgressNoted():
            return {"samples": fact.processed_samples}
        case HoleNoted():
            return {"samples": fact.end_samples}
    return {"samples": fact.audio_samples, "reason": fact.reason, "ended_ms": fact.ended_ms}


def _ended(keys: RunKeys, opened: SessionOpened, fact: SessionEnded) -> dict[str, Any]:
    return {
        "version": VERSION, "session_id": keys.session_id, "tenant_id": opened.tenant_id, "reason": fact.reason,
        "utterances": fact.utterances, "audio_seconds": to_seconds(fact.audio_samples, fact.sample_rate_hz),
        "ended_at": format_iso(fact.ended_ms), "transcript_url": f"/v1/sessions/{keys.session_id}/transcript",
    }  # fmt: skip
