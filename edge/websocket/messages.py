"""The messages of the WebSocket other than audio and errors: control messages in, messages out. No input or output."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge import errors
from edge.errors import ApiError
from edge.session.options import SessionOptions, options_of, read_change
from eventlog.events import OptionsChanged, SessionStarted

CONTROL_CHARACTERS = 32_768
"""Longest text frame accepted: the longest terms and prompt, with every character written as an escape."""


class _Control(msgspec.Struct):
    """A client's text frame; only a `configure` has more than its type."""

    type: str


class Control(NamedTuple):
    """A client's control message."""

    kind: str
    changed: OptionsChanged | None = None
    """Of a `configure`."""


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
    options: SessionOptions
    """With which the session was started."""


class UtteranceEnd(msgspec.Struct, kw_only=True, tag_field="type", tag="utterance_end"):
    """An utterance is over, and its final is sent; for clients that asked for it."""

    utterance: int
    end: float
    """Of its last word, or of the utterance if it has no words; seconds of audio."""
    channel: int


class _Final(msgspec.Struct):
    """The feed's event of a final, as far as its end is concerned."""

    type: str
    utterance: int = 0
    end: float = 0.0
    channel: int = 0
    words: list[_TimedWord] = []


class _TimedWord(msgspec.Struct):
    end: float


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
_finals = msgspec.json.Decoder(_Final)
_ended = msgspec.json.Decoder(_Ended)

_QUARANTINED, _REDRIVEN = '{"type":"quarantined"', '{"type":"redriven"'  # as the feed's events begin

RESET = '{"type":"reset"}'

CONFIGURE = "configure"
CONTROL_TYPES = frozenset({"start", "finalize", "keepalive", "stop", CONFIGURE})


def read_control(text: str) -> Control:
    """Read a client's text frame.

    Raises:
        ApiError: if its type is none of `CONTROL_TYPES`, or the options of a `configure` are malformed.
    """
    if len(text) > CONTROL_CHARACTERS:
        raise ApiError(errors.INVALID_JSON, f"a text frame has at most {CONTROL_CHARACTERS} characters")
    try:
        kind = _controls.decode(text).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ApiError(errors.INVALID_JSON, 'a text frame is a JSON object such as {"type":"stop"}') from None
    if kind not in CONTROL_TYPES:
        raise ApiError(errors.UNKNOWN_TYPE, f"type must be one of {', '.join(sorted(CONTROL_TYPES))}")
    if kind != CONFIGURE:
        return Control(kind)
    try:
        return Control(kind, read_change(text))
    except ValueError as error:
        raise ApiError(errors.INVALID_CONFIGURATION, str(error)) from None


def encode_utterance_end(body: str) -> str:
    """Encode the message that follows the feed's event `body`; empty if that is no final."""
    final = _finals.decode(body)
    if final.type != "final":
        return ""
    end = UtteranceEnd(
        utterance=final.utterance, end=final.words[-1].end if final.words else final.end, channel=final.channel
    )
    return msgspec.json.encode(end).decode()


def read_partial_channel(body: str) -> int:
    """Return the channel that a partial belongs to."""
    return _partials.decode(body).channel


def encode_session_start(start: SessionStarted, token: str, offset_samples: int) -> str:
    """Encode the first message of a connection."""
    message = SessionStart(
        session_id=start.session_id, resume_token=token, offset=offset_samples, sample_rate=start.sample_rate_hz,
        options=options_of(start),
    )  # fmt: skip
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
