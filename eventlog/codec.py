"""Encodes events to bytes and decodes them, older versions included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.events import AudioEvent, Fact, SessionStarted

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def _utterance_final_v1(raw: dict[str, Any]) -> dict[str, Any]:
    """v2 adds the words and how the text was made, which v1 did not record."""
    return raw | {"event": "utterance_final.v2"}


UPCASTERS: dict[str, Upcaster] = {"utterance_final.v1": _utterance_final_v1}
"""By older wire name: converts an object to the next version's, its ``event`` name included."""

_audio_events: msgspec.json.Decoder[AudioEvent] = msgspec.json.Decoder(AudioEvent)
_facts: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(Fact)

# msgspec raises the codec's own error for text that isn't UTF-8, and the interpreter's for nesting without end.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class UndecodableEventError(ValueError):
    """This build knows no event, of any version, that the bytes encode."""


encode: Callable[[AudioEvent | Fact], bytes] = msgspec.json.Encoder().encode
"""Returns the event's JSON."""


def decode_audio_event(data: bytes) -> AudioEvent:
    """Decode a control event.

    Raises:
        UndecodableEventError: if it is unknown.
    """
    try:
        return _audio_events.decode(data)
    except _UNREADABLE:
        event: AudioEvent = _convert(_upcast(data), AudioEvent)
        return event


def decode_start(data: bytes) -> SessionStarted:
    """Decode the event that a session started with.

    Raises:
        UndecodableEventError: if it is unknown, or another event.
    """
    event = decode_audio_event(data)
    if not isinstance(event, SessionStarted):
        msg = f"a session starts with session_started, not with {type(event).__struct_config__.tag}"
        raise UndecodableEventError(msg)
    return event


def decode_fact(data: bytes) -> Fact:
    """Decode a fact.

    Raises:
        UndecodableEventError: if it is unknown.
    """
    try:
        return _facts.decode(data)
    except _UNREADABLE:
        fact: Fact = _convert(_upcast(data), Fact)
        return fact


def _convert(raw: dict[str, Any], kind: Any) -> Any:  # noqa: ANN401 - the union decides
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        msg = f"malformed event {raw.get('event')!r}: {error}"
        raise UndecodableEventError(msg) from error


def _upcast(data: bytes) -> dict[str, Any]:
    """Convert an older version step by step to the current one."""
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
    except _UNREADABLE as error:
        msg = f"not an event: {error}"
        raise UndecodableEventError(msg) from error
    while isinstance(name := raw.get("event"), str) and name in UPCASTERS:
        raw = UPCASTERS[name](raw)
    return raw
