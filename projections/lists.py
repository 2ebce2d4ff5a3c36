"""`lists`: the List of finals, and at the end the stitched document."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from eventlog.codec import UndecodableEventError, decode_fact
from eventlog.events import SessionEnded, SessionOpened, UtteranceFinal
from eventlog.positions import OPENED
from eventlog.projection.operations import Op, publish, push, put
from eventlog.readmodel.documents import Document, ListedFinal, decode_final, encode_document, encode_final, stitch
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from projections.cleaning import cleaned
from projections.projection import Batch, Command
from projections.public_json import listed, seconds

_MS = 1000


class Lists:
    """One JSON entry per final, in order; the document when the run ends."""

    name = "lists"
    gather_s = 0.1
    """At a session's end its client waits for the document; a tenth of a second it doesn't notice."""

    def reads(self, batch: Batch) -> Sequence[Command]:
        """The List so far and the run's first fact, if the run ends in this batch."""
        if not any(isinstance(fact, SessionEnded) for _, fact in batch.facts):
            return ()
        return (
            ("LRANGE", batch.keys.list, 0, -1),
            ("XRANGE", batch.keys.transcript, str(OPENED), str(OPENED)),
        )

    def fold(self, batch: Batch, answers: Sequence[Any]) -> list[Op]:
        """Push the finals; stitch what is in the List then, once the run is over."""
        finals = [listed(fact) for _, fact in batch.facts if isinstance(fact, UtteranceFinal)]
        ops = [push(batch.keys.list, *(encode_final(final) for final in finals))] if finals else []
        for _, fact in batch.facts:
            if isinstance(fact, SessionEnded):
                entries, first_facts = answers
                ops += _ended(batch, fact, [*map(decode_final, entries), *finals], _language(first_facts))
        return ops


def _ended(batch: Batch, fact: SessionEnded, finals: list[ListedFinal], language: str | None) -> list[Op]:
    document = Document(
        session_id=batch.keys.session_id,
        run=batch.keys.run,
        transcript=stitch(finals),
        utterances=finals,
        reason=fact.reason,
        audio_seconds=seconds(fact.audio_samples, fact.sample_rate_hz),
        language=language,
        sample_rate=fact.sample_rate_hz,
        ended_at=datetime.fromtimestamp(fact.ended_ms / _MS, UTC).isoformat(timespec="milliseconds"),
        cleaned=cleaned(finals, language or ""),
    )
    message = encode_message(FeedMessage(FeedKind.DOCUMENT, batch.keys.member))
    return [
        put(batch.keys.document, encode_document(document)),
        publish(batch.keys.partition.feed_channel, message),
    ]


def _language(first_facts: Sequence[Any]) -> str | None:
    for _, fields in first_facts:
        try:
            fact = decode_fact(fields[1])
        except UndecodableEventError:
            return None  # told by its own dead letter
        if isinstance(fact, SessionOpened):
            return fact.language
    return None
