"""The query string of a stream, checked. No input or output."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

from edge import errors
from edge.errors import ApiError, ErrorCode
from eventlog.events import CONTAINER, LINEAR16, Batch

SAMPLE_RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
"""What telephones, speech models, browsers and recorders produce; VAD and recognisers get it resampled to 16 kHz."""

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")  # the usual part of BCP 47
_MAX_DIGITS = 9  # far above every bound here, and quick to convert

TRACKS = range(100)
"""Numbers of audio tracks: a film has a dozen."""

HANGOVER_MS = range(100, 5001)
"""Below, every breath would end an utterance; above, finals come later than a person waits."""


class Parameters(NamedTuple):
    """The options that the client asked for; None where it left one open."""

    sample_rate_hz: int | None = None
    encoding: str | None = None
    channels: int | None = None
    track: int | None = None
    """Of a container's audio tracks, from 0."""
    language: str | None = None
    hangover_ms: int | None = None
    session_id: str | None = None
    """Of the session to resume."""
    resume_token: str = ""
    next_utterance: int | None = None
    """When resuming: the first final that the client hasn't got."""
    shared: bool = False
    """Whether any number of requests may append: set by the endpoint, never by the client."""
    recorded: bool = False
    """Whether the request brings a whole recorded file; set by the endpoint, likewise."""
    batch: Batch | None = None
    """For which account a recorded file is processed; set by the endpoint, likewise."""


def parse(query_string: bytes) -> Parameters:
    """Read and check the query string; unknown names are ignored.

    Raises:
        ApiError: naming the first parameter that is malformed.
    """
    given = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=50))
    session_id = _session_id(given)
    return Parameters(
        sample_rate_hz=_one_of(given, "sample_rate", SAMPLE_RATES_HZ, errors.INVALID_SAMPLE_RATE),
        encoding=_encoding(given),
        channels=_one_of(given, "channels", (1, 2), errors.INVALID_CHANNELS),
        track=_one_of(given, "track", TRACKS, errors.INVALID_TRACK, "a whole number below 100"),
        language=_language(given),
        hangover_ms=_one_of(
            given, "hangover_ms", HANGOVER_MS, errors.INVALID_HANGOVER, "a whole number from 100 to 5000"
        ),
        session_id=session_id,
        resume_token=given.get("resume_token", ""),
        next_utterance=_one_of(
            given, "next_utterance", range(10**_MAX_DIGITS), errors.INVALID_NEXT_UTTERANCE, "a whole number"
        ),
    )


def _one_of(
    given: Mapping[str, str], name: str, allowed: range | tuple[int, ...], error_code: ErrorCode, words: str = ""
) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None
    if number is None or number not in allowed:
        raise ApiError(error_code, f"{name} must be {words or 'one of ' + ', '.join(map(str, allowed))}")
    return number


def _encoding(given: Mapping[str, str]) -> str | None:
    encoding = given.get("encoding")
    if encoding not in {None, LINEAR16, CONTAINER}:
        raise ApiError(
            errors.INVALID_ENCODING,
            "encoding must be linear16 (16-bit little-endian PCM) or container (WebM, WAV, MP3, …)",
        )
    return encoding


def _language(given: Mapping[str, str]) -> str | None:
    language = given.get("language")
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise ApiError(errors.INVALID_LANGUAGE, "language must be a tag such as en or pt-BR")
    return language


def _session_id(given: Mapping[str, str]) -> str | None:
    text = given.get("session_id")
    if text is None:
        if "resume_token" in given:
            raise ApiError(errors.INVALID_SESSION_ID, "resume_token needs the session_id that it belongs to")
        return None
    if "resume_token" not in given:
        raise ApiError(errors.INVALID_RESUME_TOKEN, "session_id needs the resume_token that session_start gave")
    try:
        return str(uuid.UUID(text))  # as it stands in keys
    except ValueError:
        raise ApiError(errors.INVALID_SESSION_ID, "a session id is a UUID") from None
