"""The List of finals and the transcript document: their JSON, shared by the projection that writes and all readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec


class TimedWord(msgspec.Struct, frozen=True):
    """One word of a final, its punctuation included; times in seconds of audio, to the millisecond."""

    text: str
    start: float
    end: float
    confidence: float
    """0 to 1."""


class ListedFinal(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="final", omit_defaults=True):
    """One final in the List and in the feed; times in seconds of audio, to the millisecond."""

    utterance: int
    text: str
    start: float
    end: float
    decided: float
    confidence: float
    speaker: str
    channel: int
    language: str = ""
    """Of the text, as a code such as "en"; absent if the recogniser does not report it."""
    words: tuple[TimedWord, ...] = ()
    """In order; absent if the recogniser gives no times."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """The stitched transcript of one run."""

    session_id: str
    run: str
    transcript: str
    utterances: list[ListedFinal]
    reason: str
    audio_seconds: float
    language: str | None
    """As asked for, or that of most utterances if it was detected; None if the run's first fact is gone."""
    sample_rate: int
    ended_at: str
    """ISO 8601, UTC."""
    cleaned: str = ""
    """The readable text made of the utterances; empty in documents of versions that made none."""


_finals = msgspec.json.Decoder(ListedFinal)
_documents = msgspec.json.Decoder(Document)


encode_final: Callable[[ListedFinal], bytes] = msgspec.json.Encoder().encode
"""Returns the List entry, which is also the feed's event."""


def decode_final(entry: bytes) -> ListedFinal:
    """The final in a List entry.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    return _finals.decode(entry)


encode_document: Callable[[Document], bytes] = msgspec.json.Encoder().encode
"""Returns the stored form of a document."""


def decode_document(data: bytes) -> Document:
    """The stored document.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    return _documents.decode(data)


def stitch(finals: Sequence[ListedFinal]) -> str:
    """The whole conversation: the finals' texts in order, joined by single spaces; empty for none."""
    return " ".join(final.text for final in finals)
