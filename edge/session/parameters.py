"""The query string of a stream, checked. No input or output."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode

from edge import errors
from edge.errors import ApiError, ErrorCode
from edge.session import options
from edge.session.options import HANGOVER_MS
from eventlog.events import CONTAINER, LINEAR16, Batch

SAMPLE_RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
"""What telephones, speech models, browsers and recorders produce; VAD and recognisers get it resampled to 16 kHz."""

LAYOUTS = ("mix", "split", "auto")
"""What `channels` may be beside a number: what becomes of two channels."""

TRACKS = range(100)
"""Numbers of audio tracks: a film has a dozen."""

SPEECH_OPTIONS = (
    "language", "model", "channels", "track", "endpointing_ms", "hangover_ms", "partial_interval_ms", "terms", "term",
    "prompt", "numerals", "profanity_filter", "speech_events",
)  # fmt: skip
"""The parameters that describe how speech is to be transcribed, whatever carries it."""

REPEATED = "term"
"""The one parameter that may come more than once; joined by line breaks where only one value has room."""

MAX_FIELDS = 200
"""In a query string: every term in a field of its own, and all other parameters."""

_MAX_DIGITS = 9  # far above every bound here, and quick to convert
_FLAGS = {"true": True, "1": True, "false": False, "0": False}

T = TypeVar("T")


class Parameters(NamedTuple):
    """The options that the client asked for; None where it left one open."""

    sample_rate_hz: int | None = None
    encoding: str | None = None
    channels: int | None = None
    layout: str | None = None
    """One of LAYOUTS."""
    track: int | None = None
    """Of a container's audio tracks, from 0."""
    language: str | None = None
    model: str = ""
    hangover_ms: int | None = None
    partial_interval_ms: int | None = None
    terms: tuple[str, ...] = ()
    prompt: str = ""
    numerals: bool = False
    profanity_filter: bool = False
    speech_events: bool = False
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
    """Read and check the query string; unknown names are ignored, and empty values count as not given.

    Raises:
        ApiError: naming the first parameter that is malformed.
    """
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise ApiError(errors.INVALID_OPTION, f"a query string has at most {MAX_FIELDS} parameters") from None
    given = collect(pairs)
    session_id = _session_id(given)
    channels, layout = _channels(given)
    return Parameters(
        sample_rate_hz=_one_of(given, "sample_rate", SAMPLE_RATES_HZ, errors.INVALID_SAMPLE_RATE),
        encoding=_encoding(given),
        channels=channels,
        layout=layout,
        track=_one_of(given, "track", TRACKS, errors.INVALID_TRACK, "a whole number below 100"),
        language=_checked(given, "language", options.check_language, errors.INVALID_LANGUAGE),
        model=_checked(given, "model", options.check_model) or "",
        hangover_ms=_hangover_ms(given),
        partial_interval_ms=_one_of(
            given, "partial_interval_ms", options.PARTIAL_INTERVAL_MS, errors.INVALID_OPTION,
            "a whole number from 100 to 60000",
        ),
        terms=_terms(given),
        prompt=_checked(given, "prompt", options.check_prompt) or "",
        numerals=_flag(given, "numerals"),
        profanity_filter=_flag(given, "profanity_filter"),
        speech_events=_flag(given, "speech_events"),
        session_id=session_id,
        resume_token=given.get("resume_token", ""),
        next_utterance=_one_of(
            given, "next_utterance", range(10**_MAX_DIGITS), errors.INVALID_NEXT_UTTERANCE, "a whole number"
        ),
    )  # fmt: skip


def collect(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Make parameters by name: the last value of each, but all terms; without empty ones, which pages' forms send."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if value:
            found[name] = f"{found[name]}\n{value}" if name == REPEATED and name in found else value
    return found


def parse_options(given: Mapping[str, str]) -> Parameters:
    """As `parse`, of options by name."""
    return parse(urlencode(given).encode())


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


def _checked(
    given: Mapping[str, str], name: str, check: Callable[[str], T], error_code: ErrorCode = errors.INVALID_OPTION
) -> T | None:
    text = given.get(name)
    try:
        return None if text is None else check(text)
    except ValueError as error:
        raise ApiError(error_code, str(error)) from None


def _flag(given: Mapping[str, str], name: str) -> bool:
    value = _FLAGS.get(given.get(name, "false").lower())
    if value is None:
        raise ApiError(errors.INVALID_OPTION, f"{name} must be true or false")
    return value


def _terms(given: Mapping[str, str]) -> tuple[str, ...]:
    lists, single = ([given[name]] if name in given else [] for name in ("terms", REPEATED))
    try:
        return options.split_terms(lists, single)
    except ValueError as error:
        raise ApiError(errors.INVALID_OPTION, str(error)) from None


def _hangover_ms(given: Mapping[str, str]) -> int | None:
    endpointing_ms, hangover_ms = (
        _one_of(given, name, HANGOVER_MS, errors.INVALID_HANGOVER, "a whole number from 100 to 5000")
        for name in ("endpointing_ms", "hangover_ms")
    )
    try:
        return options.choose_hangover(endpointing_ms, hangover_ms)
    except ValueError as error:
        raise ApiError(errors.INVALID_HANGOVER, str(error)) from None


def _channels(given: Mapping[str, str]) -> tuple[int | None, str | None]:
    """How many channels the client names, and how it wants two of them."""
    text = given.get("channels")
    if text in LAYOUTS:
        return None, text
    words = f"1, 2, {', '.join(LAYOUTS[:-1])} or {LAYOUTS[-1]}"
    number = _one_of(given, "channels", (1, 2), errors.INVALID_CHANNELS, words)
    return number, "split" if number == 2 else None  # noqa: PLR2004 - two channels


def _encoding(given: Mapping[str, str]) -> str | None:
    encoding = given.get("encoding")
    if encoding not in {None, LINEAR16, CONTAINER}:
        raise ApiError(
            errors.INVALID_ENCODING,
            "encoding must be linear16 (16-bit little-endian PCM) or container (WebM, WAV, MP3, …)",
        )
    return encoding


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
