"""The AsyncAPI document of the WebSocket, made of the types and tables that its messages come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edge import errors
from edge.session.options import (
    HANGOVER_MS,
    MAX_PROMPT_CHARACTERS,
    MAX_TERM_CHARACTERS,
    MAX_TERMS,
    PARTIAL_INTERVAL_MS,
)
from edge.session.parameters import LAYOUTS, SAMPLE_RATES_HZ, TRACKS
from edge.websocket import messages
from eventlog.events import CONTAINER, LINEAR16
from eventlog.readmodel.documents import ListedFinal

STREAM_DOCUMENT_PATH = "/asyncapi.json"

STREAM = "stream"

_SCHEMA = "#/components/schemas/{name}"


class Ack(msgspec.Struct, kw_only=True, tag_field="type", tag="ack"):
    """Audio up to `offset` is durable."""

    offset: int
    """Samples per channel from the session's start; bytes of a container."""


class Partial(msgspec.Struct, kw_only=True, tag_field="type", tag="partial"):
    """The open utterance so far; the next partial or its final replaces it. Times are seconds of audio."""

    utterance: int
    text: str
    stable: int
    """So many characters of the text, whole words, stay as they are in the utterance's later partials."""
    start: float
    end: float
    channel: int


class SpeechStarted(msgspec.Struct, kw_only=True, tag_field="type", tag="speech_started"):
    """Speech has begun, `start` seconds into the audio; for clients that asked for it, and best effort."""

    start: float
    channel: int


class Hole(msgspec.Struct, kw_only=True, tag_field="type", tag="hole"):
    """Acked audio between these seconds was lost by Redis and could not be restored."""

    start: float
    end: float


class Reset(msgspec.Struct, kw_only=True, tag_field="type", tag="reset"):
    """Redis lost events that were sent: forget the finals so far; all that exist are sent again."""


def document(version: str, stream_path: str) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the WebSocket at `stream_path`."""
    schemas = _schemas()
    sent = {name: _json(name) for name, schema in schemas.items() if "type" in schema["properties"]}
    received = {"audio": _AUDIO, **{name: _json(name) for name in CONTROLS}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stenolog's WebSocket", "version": version,
            "description": "Audio in, captions out. docs/websocket.md describes how to resume after a disconnect.",
        },
        "defaultContentType": "application/json",
        "channels": {
            STREAM: {
                "address": stream_path,
                "title": "One session's connection",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (*received, *sent)},
                "bindings": {"ws": {"method": "GET", "query": _query(), "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "take": _operation("receive", "Messages from a client.", received),
            "tell": _operation("send", "Messages to a client.", sent),
        },
        "components": {"messages": {**received, **sent}, "schemas": {**schemas, **_controls()}},
    }  # fmt: skip


CONTROLS: Mapping[str, str] = {
    "finalize": "End the open utterance here.",
    "configure": "Change options for the utterances that begin behind the audio so far.",
    "keepalive": "Keep the silent session from being ended as idle.",
    "stop": "End the session.",
    "start": "Answered by `already_started`: the query string carries the options.",
}
"""The text messages that a client may send, each with its effect."""

_AUDIO = {
    "name": "audio",
    "contentType": "application/octet-stream",
    "summary": "A binary frame of any size up to the bound: PCM, or a container's bytes; a sample may be split.",
    "payload": {"type": "string", "format": "binary"},
}


def _controls() -> dict[str, Any]:
    return {
        name: {
            "type": "object", "required": ["type"], "description": effect,
            "properties": {"type": {"const": name}, **(_CHANGES if name == "configure" else {})},
        }
        for name, effect in CONTROLS.items()
    }  # fmt: skip


def _schemas() -> dict[str, Any]:
    """The schemas of the server's messages by their `type`, and of their parts by name; all members are listed."""
    kinds = [
        messages.SessionStart, Ack, Partial, ListedFinal, SpeechStarted, messages.UtteranceEnd, Hole, Reset,
        messages.SessionEnd,
    ]  # fmt: skip
    _, components = msgspec.json.schema_components(kinds, ref_template=_SCHEMA)
    kinds_by_name = {name: schema["properties"].get("type") for name, schema in components.items()}
    named = {kind["enum"][0] if kind else name: components[name] for name, kind in kinds_by_name.items()}
    named["error"] = {
        "description": "An error; the server closes the socket after a `fatal` one.",
        "type": "object",
        "required": ["type", "code", "message", "fatal"],
        "properties": {
            "type": {"const": "error"},
            "code": {"type": "string", "enum": [one.code for one in errors.TABLE]},
            "message": {"type": "string"},
            "fatal": {"type": "boolean"},
        },
    }
    return {name: {**schema, "additionalProperties": False} for name, schema in named.items()}


def _json(name: str) -> dict[str, Any]:
    return {"name": name, "contentType": "application/json", "payload": {"$ref": _SCHEMA.format(name=name)}}


def _operation(action: str, summary: str, messages: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": f"#/channels/{STREAM}"},
        "messages": [{"$ref": f"#/channels/{STREAM}/messages/{name}"} for name in messages],
    }


_LANGUAGE = {"type": "string", "description": "A tag such as `en` or `pt-BR`, or `auto`."}
_HANGOVER = {"type": "integer", "minimum": HANGOVER_MS[0], "maximum": HANGOVER_MS[-1]}
_INTERVAL = {"type": "integer", "minimum": PARTIAL_INTERVAL_MS[0], "maximum": PARTIAL_INTERVAL_MS[-1]}
_PROMPT = {"type": "string", "maxLength": MAX_PROMPT_CHARACTERS}
_TERM = {"type": "string", "maxLength": MAX_TERM_CHARACTERS}

_CHANGES = {
    "language": _LANGUAGE, "terms": {"type": "array", "maxItems": MAX_TERMS, "items": _TERM}, "prompt": _PROMPT,
    "endpointing_ms": _HANGOVER, "hangover_ms": _HANGOVER, "partial_interval_ms": _INTERVAL,
}  # fmt: skip
"""The options that a client may change in mid-session."""


def _query() -> dict[str, Any]:
    """Describe the query string of the handshake."""
    return {
        "type": "object",
        "properties": {
            "sample_rate": {"type": "integer", "enum": [*SAMPLE_RATES_HZ], "default": 16_000},
            "encoding": {"type": "string", "enum": [LINEAR16, CONTAINER], "default": LINEAR16},
            "channels": {"enum": [1, 2, *LAYOUTS], "default": 1},
            "track": {"type": "integer", "minimum": TRACKS[0], "maximum": TRACKS[-1]},
            "language": {**_LANGUAGE, "default": "en"},
            "model": {"type": "string"},
            "endpointing_ms": _HANGOVER,
            "hangover_ms": {**_HANGOVER, "description": "The older name of `endpointing_ms`."},
            "partial_interval_ms": _INTERVAL,
            "terms": {"type": "string", "description": "Key terms with commas between them."},
            "term": {**_TERM, "description": "One key term; may be repeated."},
            "prompt": _PROMPT,
            "numerals": {"type": "boolean", "default": False},
            "profanity_filter": {"type": "boolean", "default": False},
            "speech_events": {"type": "boolean", "default": False},
            "session_id": {"type": "string", "format": "uuid", "description": "To resume; needs `resume_token`."},
            "resume_token": {"type": "string"},
            "next_utterance": {"type": "integer", "minimum": 0},
        },
    }
