"""Facts as the JSON that clients and subscribers see: seconds instead of samples, names of the public wire."""

from __future__ import annotations

from operator import attrgetter

import msgspec

from eventlog.events import (
    Fact,
    HoleNoted,
    ProgressNoted,
    RunQuarantined,
    RunRedriven,
    SessionEnded,
    SessionOpened,
    SourceNoted,
    UtteranceFinal,
)
from eventlog.readmodel.documents import ListedFinal, TimedWord, encode_final
from eventlog.text.published import publish_final

_MS = 1000
_DECIMALS = 3  # a millisecond of audio, and a thousandth of confidence: finer is noise


class Hole(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="hole"):
    """Audio between these seconds was lost before it was processed."""

    start: float
    end: float


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="session_end"):
    """The run is over; the edge that holds the connection adds the transcript from the document."""

    reason: str
    utterances: int
    audio_seconds: float
    detail: str | msgspec.UnsetType = msgspec.UNSET
    """Why it failed, if it did."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="quarantined"):
    """Nothing more comes of the run, unless it is redriven or ended."""

    reason: str


class Redriven(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="redriven"):
    """A quarantined run continues."""


_encoder = msgspec.json.Encoder()
_word_fields = attrgetter("text", "start_samples", "end_samples", "confidence")


def to_seconds(samples: int, sample_rate_hz: int) -> float:
    """A position in samples as seconds of audio, to the millisecond."""
    return round(samples / sample_rate_hz, _DECIMALS)


def to_listed_final(fact: UtteranceFinal) -> ListedFinal:
    """The List's entry for a final: as its session wants it published."""
    if fact.numerals or fact.profanity_filter:
        fact = publish_final(fact)
    rate, half = fact.sample_rate_hz, fact.sample_rate_hz // 2
    return ListedFinal(
        utterance=fact.utterance,
        text=fact.text,
        start=round(fact.start_samples / rate, _DECIMALS),
        end=round(fact.end_samples / rate, _DECIMALS),
        decided=round(fact.decided_samples / rate, _DECIMALS),
        confidence=round(fact.confidence, _DECIMALS),
        speaker=fact.speaker,
        channel=fact.channel,
        language=fact.language,
        # Whole milliseconds by integers: three calls of `round` per word would be most of this function's time.
        words=tuple([
            TimedWord(text, (start * _MS + half) // rate / _MS, (end * _MS + half) // rate / _MS, confidence)
            for text, start, end, confidence in map(_word_fields, fact.words)
        ]) if fact.words else (),
    )  # fmt: skip


def encode_event(fact: Fact) -> bytes | None:
    """The feed's event for a fact, None for one that listeners don't get."""
    match fact:
        case UtteranceFinal():
            return encode_final(to_listed_final(fact))
        case SessionOpened() | SourceNoted() | ProgressNoted():
            return None  # the first is sent as `session_start`, before a feed exists; the others as status
        case HoleNoted():
            rate = fact.sample_rate_hz
            start, end = to_seconds(fact.start_samples, rate), to_seconds(fact.end_samples, rate)
            return _encoder.encode(Hole(start=start, end=end))
        case RunQuarantined():
            return _encoder.encode(Quarantined(reason=fact.reason))
        case RunRedriven():
            return _encoder.encode(Redriven())
        case SessionEnded():
            audio_seconds = to_seconds(fact.audio_samples, fact.sample_rate_hz)
            return _encoder.encode(
                Ended(
                    reason=fact.reason, utterances=fact.utterances, audio_seconds=audio_seconds,
                    detail=fact.detail or msgspec.UNSET,
                )
            )
