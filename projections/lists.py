"""`lists`: the List of finals, and at the end the stitched document."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from eventlog.codec import UndecodableEventError, decode_fact
from eventlog.events import SessionEnded, SessionOpened, UtteranceFinal
from eventlog.positions import OPENED
from eventlog.projection.operations import Op, publish, push, put
from eventlog.projection.projection_log import RunFacts
from eventlog.readmodel.documents import (
    Document,
    ListedFinal,
    decode_final,
    encode_document,
    encode_final,
    stitch,
)
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from projections.cleaning import clean, spoken_language
from projections.projection import Command
from projections.public_json import to_listed_final, to_seconds

_MS = 1000


class Lists:
    """One JSON entry per final, in order; the document when the run ends."""

    name = "lists"
    linger_s = 0.1
    """At a session's end its client waits for the document; a tenth of a second it doesn't notice."""

    def reads(self, pulled: RunFacts) -> Sequence[Command]:
        """The List so far and the run's first fact, if the run ends among these facts."""
        if not any(isinstance(fact, SessionEnded) for _, fact in pulled.facts):
            return ()
        return (
            ("LRANGE", pulled.keys.list, 0, -1),
            ("XRANGE", pulled.keys.transcript, str(OPENED), str(OPENED)),
        )

    def fold(self, pulled: RunFacts, answers: Sequence[Any]) -> list[Op]:
        """Push the finals; once the run is over, stitch all that the List then holds."""
        finals = [to_listed_final(fact) for _, fact in pulled.facts if isinstance(fact, UtteranceFinal)]
        ops = [push(pulled.keys.list, *(encode_final(final) for final in finals))] if finals else []
        for _, fact in pulled.facts:
            if isinstance(fact, SessionEnded):
                entries, first_facts = answers
                ops += _ended(pulled, fact, [*map(decode_final, entries), *finals], _language(first_facts))
        return ops


def _ended(pulled: RunFacts, fact: SessionEnded, finals: list[ListedFinal], asked: str | None) -> list[Op]:
    language = None if asked is None else spoken_language(finals, asked)
    document = Document(
        session_id=pulled.keys.session_id,
        run=pulled.keys.run,
        transcript=stitch(finals),
        utterances=finals,
        reason=fact.reason,
        audio_seconds=to_seconds(fact.audio_samples, fact.sample_rate_hz),
        language=language,
        sample_rate=fact.sample_rate_hz,
        ended_at=datetime.fromtimestamp(fact.ended_ms / _MS, UTC).isoformat(timespec="milliseconds"),
        cleaned=clean(finals, language or ""),
    )
    message = encode_message(FeedMessage(FeedKind.DOCUMENT, pulled.keys.member))
    return [
        put(pulled.keys.document, encode_document(document)),
        publish(pulled.keys.partition.feed_channel, message),
    ]


def _language(first_facts: Sequence[Any]) -> str | None:
    for _, fields in first_facts:
        try:
            fact = decode_fact(fields[1])
        except UndecodableEventError:
            return None  # its own dead letter reports it
        if isinstance(fact, SessionOpened):
            return fact.language
    return None
