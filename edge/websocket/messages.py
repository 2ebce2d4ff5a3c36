"""The messages of the WebSocket other than audio and errors: control messages in, messages out. No input or output."""

from __future__ import annotations

import msgspec

from edge import errors
from edge.errors import ApiError

CONTROL_BYTES = 4096
"""Longest text frame accepted: the longest control message has some 20 bytes."""


class _Control(msgspec.Struct):
    """A client's text frame; only its type means anything."""

    type: str


class _Partial(msgspec.Struct):
    channel: int = 0


class SessionEnd(msgspec.Struct, kw_only=True, tag_field="type", tag="session_end"):
    """The last message of a session."""

    reason: str
    transcript: str | None
    utterances: int
    audio_seconds: float
    transcript_url: str | msgspec.UnsetType = msgspec.UNSET
    """Where to fetch the transcript, if it wasn't stitched in time."""


class SessionStart(msgspec.Struct, kw_only=True, tag_field="type", tag="session_start"):
    """The first message of a connection."""

    session_id: str
    resume_token: str
    offset: int
    sample_rate: int


class _Ended(msgspec.Struct):
    """The feed's last event."""

    reason: str
    utterances: int
    audio_seconds: float
    detail: str = ""


class _Quarantined(msgspec.Struct):
    """The feed's event about a run that goes no further for now."""

    reason: str


_controls = msgspec.json.Decoder(_Control)
_quarantined = msgspec.json.Decoder(_Quarantined)
_partials = msgspec.json.Decoder(_Partial)
_ended = msgspec.json.Decoder(_Ended)

_QUARANTINED, _REDRIVEN = '{"type":"quarantined"', '{"type":"redriven"'  # as the feed's events begin

RESET = '{"type":"reset"}'

CONTROL_TYPES = frozenset({"start", "finalize", "keepalive", "stop"})


def read_control(text: str) -> str:
    """Return the type of a client's text frame.

    Raises:
        ApiError: if it is none of `CONTROL_TYPES`.
    """
    if len(text) > CONTROL_BYTES:
        raise ApiError(errors.INVALID_JSON, f"a text frame has at most {CONTROL_BYTES} characters")
    try:
        kind = _controls.decode(text).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ApiError(errors.INVALID_JSON, 'a text frame is a JSON object such as {"type":"stop"}') from None
    if kind not in CONTROL_TYPES:
        raise ApiError(errors.UNKNOWN_TYPE, f"type must be one of {', '.join(sorted(CONTROL_TYPES))}")
    return kind


def read_partial_channel(body: str) -> int:
    """Return the channel that a partial belongs to."""
    return _partials.decode(body).channel


def encode_session_start(session_id: str, token: str, offset_samples: int, sample_rate_hz: int) -> str:
    """Encode the first message of a connection."""
    message = SessionStart(
        session_id=session_id, resume_token=token, offset=offset_samples, sample_rate=sample_rate_hz
    )
    return msgspec.json.encode(message).decode()


def read_end_reason(body: str | None) -> str:
    """Return why a session ended, by the feed's last event; ``stop`` if that hasn't come, as in the last message."""
    return _ended.decode(body).reason if body else "stop"


def encode_session_end(body: str | None, transcript: str | None, url: str, audio_seconds: float) -> str:
    """Encode the last message: the feed's last event `body` and the transcript, or the transcript's `url`."""
    ended = _ended.decode(body) if body else _Ended("stop", 0, audio_seconds)
    message = SessionEnd(
        reason=ended.reason,
        transcript=transcript,
        utterances=ended.utterances,
        audio_seconds=round(ended.audio_seconds, 3),
        transcript_url=url if transcript is None else msgspec.UNSET,
    )
    return msgspec.json.encode(message).decode()


def describe_quarantine(body: str) -> str | None:
    """Return, for a feed's event, why the run was quarantined; empty if redriven; None for any other event."""
    if body.startswith(_QUARANTINED):
        return f"the session was quarantined, since {_quarantined.decode(body).reason}"
    return "" if body.startswith(_REDRIVEN) else None


def read_end_detail(body: str | None) -> str:
    """Return why the session failed, by the feed's last event; empty if it didn't."""
    return _ended.decode(body).detail if body else ""
