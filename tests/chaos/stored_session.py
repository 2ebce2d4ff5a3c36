"""One session as Redis holds it, read without the product's own readers."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from eventlog.codec import decode_audio_event, decode_fact
from eventlog.events import Fact, HoleFound, UtteranceFinal
from eventlog.keys import SessionKeys
from eventlog.positions import SEALED, Position
from tests.chaos.redis_process import RedisClient

_CLOCKS = ("opened_ms", "committed_ms", "ended_ms", "noted_ms")
_RECOGNISED = ("text", "confidence")


class Audio(NamedTuple):
    """A session's audio in the log."""

    pcm: bytes
    end_samples: int
    holes: list[tuple[int, int]]
    sealed: bool
    gaps: list[str]
    """Chunks that don't begin at the end of the one before."""


class StoredSession(NamedTuple):
    """Everything stored of a session."""

    audio: Audio
    facts: list[tuple[Position, Fact]]
    listed: list[bytes]
    feed: list[tuple[Position, bytes]]
    document: dict[str, Any] | None
    view: dict[bytes, bytes]


async def read_session(client: RedisClient, keys: SessionKeys, channels: int) -> StoredSession:
    """Read a session's audio, facts and read models."""
    run = keys.run()
    pipe = client.pipeline(transaction=False)
    pipe.xrange(keys.audio)
    pipe.xrange(run.transcript)
    pipe.lrange(run.list, 0, -1)
    pipe.xrange(run.feed)
    pipe.get(run.document)
    pipe.hgetall(run.view)
    audio, facts, listed, feed, document, view = await pipe.execute()
    return StoredSession(
        _audio(audio, channels),
        [(Position.parse(at), decode_fact(_first(fields))) for at, fields in facts],
        listed, [(Position.parse(at), _first(fields)) for at, fields in feed],
        msgspec.json.decode(document) if document else None, view,
    )  # fmt: skip


def timeless(fact: Fact, *, blank: bool) -> Fact:
    """The fact without wall clock times, and if `blank` without all that depends on the recogniser."""
    names = [*_CLOCKS, "traceparent", *(_RECOGNISED if blank else ())]
    changes = {
        name: msgspec.convert(0 if name in _CLOCKS or name == "confidence" else "", type(getattr(fact, name)))
        for name in names if name in fact.__struct_fields__
    }
    timed = msgspec.structs.replace(fact, **changes)
    return without_words(timed) if blank else timed


def without_words(fact: Fact) -> Fact:
    """The fact as older versions state it, whose finals have neither words nor how the text was made."""
    if not isinstance(fact, UtteranceFinal):
        return fact
    return msgspec.structs.replace(fact, words=(), language="", model="", decodes=0)


def _first(fields: dict[bytes, bytes]) -> bytes:
    return next(iter(fields.values()))


def _audio(entries: list[tuple[bytes, dict[bytes, bytes]]], channels: int) -> Audio:
    parts, holes, gaps, end, sealed = list[bytes](), list[tuple[int, int]](), list[str](), 0, False
    for entry_id, fields in entries:
        at = Position.parse(entry_id)
        if at == SEALED:
            sealed = True
        elif b"pcm" in fields:
            pcm = fields[b"pcm"]
            if end + len(pcm) // (2 * channels) != at.offset:
                gaps.append(f"{len(pcm)} bytes after {end} samples end at {at}")
            parts.append(pcm)
            end = at.offset
        elif isinstance(event := decode_audio_event(fields[b"event"]), HoleFound):
            holes.append((at.offset - event.samples, at.offset))
            parts.append(bytes(2 * channels * event.samples))
            end = at.offset
    return Audio(b"".join(parts), end, holes, sealed, gaps)
