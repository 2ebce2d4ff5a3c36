"""Status messages: how far a run is, for people and for programs that wait for it.

They are kept in a Stream, numbered from 1 (`RunKeys.status`), and published: on the partition's feed channel for
edges, and those of live runs on `eventlog.keys.status_channel` for subscribers of Redis.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from eventlog.keys import RunKeys
from eventlog.positions import SEALED, Position
from eventlog.redis.server import Server

RETENTION_AFTER_END_S = 300
"""How long the last messages are kept after the end."""

FAILURES = frozenset({"failed", "deleted"})
"""Reasons of an end after which no transcript is available."""

_MS = 1000
_MINUTE_S, _HOUR_S = 60, 3600


class StatusMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message, as clients get it; durations in seconds of audio, times in ISO 8601, UTC."""

    session_id: str
    status: Literal["processing", "completed", "failed"]
    progress: int | None
    """Percent; None while the length of the audio is unknown."""
    message: str
    """For a person; never transcript text."""
    timestamp: str
    duration_processed: float
    duration_total: float | None
    estimated_completion: str | None
    processing_speed: float | None
    """Seconds of audio per second of time, since the session's start."""

    @property
    def is_last(self) -> bool:
        """Nothing comes after it."""
        return self.status != "processing"


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a run's last message."""

    session_id: str
    reason: str
    detail: str
    """Why it failed, if that is known."""
    utterances: int
    audio_seconds: float
    opened_ms: int
    """0 if it isn't known."""
    ended_ms: int
    progress: int | None = None
    """How far it had come, if it failed."""
    duration_total: float | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StatusMessage)

_ENDINGS = {
    "idle": "Ended after a long silence",
    "closed": "Ended after its client had closed the connection",
    "limit": "Ended at the longest duration that a session may have",
}


def encode_status(message: StatusMessage) -> bytes:
    """The message as stored and published."""
    return _encoder.encode(message)


def decode_status(data: bytes | str) -> StatusMessage:
    """The stored or published message.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    return _decoder.decode(data)


async def read_statuses(
    server: Server, keys: RunKeys, after: Position, *, limit: int = 1000
) -> list[tuple[Position, bytes]]:
    """The messages after a position, in order.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    entries = await server.execute("XRANGE", keys.status, f"({after}", "+", "COUNT", limit)
    return [(Position.parse(entry_id), fields[1]) for entry_id, fields in entries]


async def read_last_status(server: Server, keys: RunKeys) -> tuple[Position, bytes] | None:
    """The latest message, None if none was made or all have expired.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    entries = await server.execute("XREVRANGE", keys.status, "+", "-", "COUNT", 1)
    return (Position.parse(entries[0][0]), entries[0][1][1]) if entries else None


async def has_ended(server: Server, keys: RunKeys) -> bool:
    """Whether the last message was made; it may have expired since.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    position = await server.execute("GET", keys.projected("status"))
    return position is not None and Position.parse(position) == SEALED


def last_message(ending: Ending) -> StatusMessage:
    """The message that a run ends with."""
    failed = ending.reason in FAILURES
    return StatusMessage(
        session_id=ending.session_id,
        status="failed" if failed else "completed",
        progress=ending.progress if failed else 100,
        message=_why(ending) if failed else _done(ending),
        timestamp=format_iso(ending.ended_ms),
        duration_processed=ending.audio_seconds,
        duration_total=ending.duration_total if failed else ending.audio_seconds,
        estimated_completion=None if failed else format_iso(ending.ended_ms),
        processing_speed=compute_speed(ending.audio_seconds, ending.opened_ms, ending.ended_ms),
    )


def compute_speed(audio_seconds: float, opened_ms: int, now_ms: int) -> float | None:
    """Seconds of audio per second since the start; None where clocks that disagree leave no time between."""
    if not opened_ms or now_ms <= opened_ms:
        return None
    return round(audio_seconds * _MS / (now_ms - opened_ms), 2)


def format_iso(unix_ms: int) -> str:
    """A time in ISO 8601, UTC, to the millisecond; such texts sort as the times do."""
    return datetime.fromtimestamp(unix_ms / _MS, UTC).isoformat(timespec="milliseconds")


def format_duration(seconds: float) -> str:
    """A duration for a person."""
    rounded_s = round(seconds)
    if rounded_s < _MINUTE_S:
        return f"{rounded_s} s"
    if rounded_s < _HOUR_S:
        return f"{rounded_s // _MINUTE_S} min {rounded_s % _MINUTE_S} s"
    return f"{rounded_s // _HOUR_S} h {rounded_s % _HOUR_S // _MINUTE_S} min"


def _done(ending: Ending) -> str:
    said = {0: "no speech", 1: "1 utterance"}.get(ending.utterances, f"{ending.utterances} utterances")
    return f"{_ENDINGS.get(ending.reason, 'Done')}: {said} in {format_duration(ending.audio_seconds)} of audio."


def _why(ending: Ending) -> str:
    if ending.reason == "deleted":
        return "Failed: the session was deleted."
    return f"Failed: {ending.detail or 'the audio could not be transcribed'}."
