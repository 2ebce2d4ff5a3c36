"""The options of a session's speech: their bounds, and how a client states and changes them. No input or output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from eventlog.events import OptionsChanged, SessionStarted

HANGOVER_MS = range(100, 5001)
"""Below, every breath would end an utterance; above, finals come later than a person waits."""

PARTIAL_INTERVAL_MS = range(100, 60_001)
"""Below, a partial would be replaced before it is read; above, the utterance has long ended."""

MAX_TERMS = 100
MAX_TERM_CHARACTERS = 100
MAX_TERMS_CHARACTERS = 2_000
"""Of all terms together: more than a recogniser's prompt holds."""

MAX_PROMPT_CHARACTERS = 1_000
"""As much as Whisper takes as said before: 224 tokens."""

AUTO = "auto"
"""In place of a language: the recogniser detects it."""

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")  # the usual part of BCP 47
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class SessionOptions(msgspec.Struct, kw_only=True):
    """The options with which a session was started, as its client receives them."""

    sample_rate: int
    encoding: str
    channels: int
    """0: as many as the recording has."""
    layout: str
    """Of two channels: `split` keeps them apart, `mix` makes one of them, `auto` leaves it to what they hold."""
    track: int | None
    """Of a container's audio tracks; null: the one that it marks as default."""
    language: str
    """A tag such as `en-US`, or `auto`: detected."""
    model: str
    """Empty: the deployment's default."""
    terms: list[str]
    prompt: str
    endpointing_ms: int | None
    """The pause that ends an utterance; null: the deployment's."""
    partial_interval_ms: int | None
    """Between two partials of an utterance; null: the deployment's."""
    numerals: bool
    profanity_filter: bool
    speech_events: bool


class OptionsChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A client's wish to change options in mid-session; null, or left out: unchanged."""

    language: str | None = None
    terms: list[str] | None = None
    """In place of the former ones; an empty list for none."""
    prompt: str | None = None
    endpointing_ms: int | None = None
    hangover_ms: int | None = None
    """The older name of `endpointing_ms`."""
    partial_interval_ms: int | None = None


def options_of(start: SessionStarted) -> SessionOptions:
    """The options that a session was started with."""
    return SessionOptions(
        sample_rate=start.sample_rate_hz, encoding=start.encoding, channels=start.channels, layout=start.layout,
        track=None if start.track < 0 else start.track,
        language=start.language, model=start.model, terms=list(start.terms), prompt=start.prompt,
        endpointing_ms=start.segmenter.get("hangover_ms"), partial_interval_ms=start.partial_interval_ms or None,
        numerals=start.numerals, profanity_filter=start.profanity_filter, speech_events=start.speech_events,
    )  # fmt: skip


def read_change(data: bytes | str) -> OptionsChanged:
    """Read a change of options from a JSON object; its member `type`, if it has one, means nothing here.

    Raises:
        ValueError: it is malformed, names an option that can't be changed, or none; the message is for the client.
    """
    try:
        members = msgspec.json.decode(data, type=dict[str, Any])
        members.pop("type", None)
        wanted = msgspec.convert(members, OptionsChange)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    changed = OptionsChanged(
        language=None if wanted.language is None else check_language(wanted.language),
        terms=None if wanted.terms is None else check_terms(wanted.terms),
        prompt=None if wanted.prompt is None else check_prompt(wanted.prompt),
        hangover_ms=choose_hangover(wanted.endpointing_ms, wanted.hangover_ms),
        partial_interval_ms=check_range("partial_interval_ms", wanted.partial_interval_ms, PARTIAL_INTERVAL_MS),
    )
    if changed == OptionsChanged():
        raise ValueError(f"at least one of {', '.join(OptionsChange.__struct_fields__)} must be given")
    return changed


def check_language(text: str) -> str:
    """Return a language tag in the form in which it is pinned.

    Raises:
        ValueError: it is no tag; the message is for the client.
    """
    if text.lower() == AUTO:
        return AUTO
    tag = text.replace("_", "-")  # as phones and Java write it
    if not _LANGUAGE.fullmatch(tag):
        raise ValueError("language must be a tag such as en or pt-BR, or auto")
    return tag


def check_model(text: str) -> str:
    """Return a model's name.

    Raises:
        ValueError: no model has such a name; the message is for the client.
    """
    if not _MODEL.fullmatch(text):
        raise ValueError("model must be the name of a model, such as base.en")
    return text


def check_terms(given: Iterable[str]) -> tuple[str, ...]:
    """Return key terms without blanks around them, and each once.

    Raises:
        ValueError: they exceed a bound, or hold control characters; the message is for the client.
    """
    terms = tuple(dict.fromkeys(term.strip() for term in given if term.strip()))
    if any(_CONTROL.search(term) or "\n" in term or "\t" in term for term in terms):
        raise ValueError("terms must not hold control characters")
    if len(terms) > MAX_TERMS or sum(map(len, terms)) > MAX_TERMS_CHARACTERS or max(
        map(len, terms), default=0
    ) > MAX_TERM_CHARACTERS:
        raise ValueError(
            f"terms must be at most {MAX_TERMS}, of at most {MAX_TERM_CHARACTERS} characters each and "
            f"{MAX_TERMS_CHARACTERS} in all"
        )
    return terms


def check_prompt(text: str) -> str:
    """Return a prompt.

    Raises:
        ValueError: it is too long, or holds control characters; the message is for the client.
    """
    if len(text) > MAX_PROMPT_CHARACTERS or _CONTROL.search(text):
        raise ValueError(f"prompt must have at most {MAX_PROMPT_CHARACTERS} characters, and no control characters")
    return text.strip()


def check_range(name: str, number: int | None, allowed: range) -> int | None:
    """Return `number`, or None if it isn't given.

    Raises:
        ValueError: it is out of range; the message is for the client.
    """
    if number is not None and number not in allowed:
        raise ValueError(f"{name} must be a whole number from {allowed[0]} to {allowed[-1]}")
    return number


def choose_hangover(endpointing_ms: int | None, hangover_ms: int | None) -> int | None:
    """Return the pause that ends an utterance, given by either of its names.

    Raises:
        ValueError: it is out of range, or the two contradict each other; the message is for the client.
    """
    check_range("endpointing_ms", endpointing_ms, HANGOVER_MS)
    check_range("hangover_ms", hangover_ms, HANGOVER_MS)
    if None not in {endpointing_ms, hangover_ms} and endpointing_ms != hangover_ms:
        raise ValueError("endpointing_ms and hangover_ms are two names of one option, and differ")
    return hangover_ms if endpointing_ms is None else endpointing_ms


def split_terms(lists: Sequence[str], single: Sequence[str]) -> tuple[str, ...]:
    """Return the key terms of a query string or form: `lists` hold some with commas between, `single` one a line.

    Raises:
        ValueError: as `check_terms`.
    """
    return check_terms([
        *(term for text in lists for term in text.split(",")),
        *(term for text in single for term in text.splitlines()),
    ])  # fmt: skip
