"""Settings that a replay pins instead of its session's own, read from `name=value` pairs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from eventlog.events import SessionStarted
from eventlog.keys import LIVE_RUN
from eventlog.work.replays import pin_start
from processor.speech import SegmenterSettings

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of runs: they stand in keys and URLs, and on command lines without quotes."""

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
"""The usual part of BCP 47, as an edge accepts it."""

_SPEAKER_LABELS = "speaker_labels"
_SEGMENTER = tuple(field.name for field in msgspec.structs.fields(SegmenterSettings) if field.name != "version")
SETTABLE = (*_SEGMENTER, _SPEAKER_LABELS)
"""Names for `RunOverrides.parse`: the segmenter's settings but its version, and how speakers are labelled."""


class RunOverrides(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that replace the sessions' own; everything else stays theirs."""

    engine: str = ""
    """Engine, with ``:model`` behind it where a model is named."""
    language: str | None = None
    speaker_labels: Literal["channel", "hash"] | None = None
    segmenter: dict[str, int] = {}

    @classmethod
    def parse(cls, pairs: Sequence[str], *, engine: str, language: str | None) -> RunOverrides:
        """The overrides that `name=value` pairs describe.

        Raises:
            ValueError: if one isn't understood, or couldn't be honoured by a session with the usual settings.
        """
        given = dict(map(_split, pairs))
        labels = given.pop(_SPEAKER_LABELS, None)
        if labels not in {None, "channel", "hash"}:
            raise ValueError(f"{_SPEAKER_LABELS}: channel or hash, not {labels!r}")
        if language is not None and not LANGUAGE.fullmatch(language):
            raise ValueError(f"{language!r} is no language tag such as en or pt-BR")
        segmenter = {name: _integer(name, value) for name, value in given.items()}
        overrides = msgspec.convert(
            {"engine": engine, "language": language, _SPEAKER_LABELS: labels, "segmenter": segmenter}, cls
        )
        _with_changes({}, segmenter)
        return overrides

    def over(self, start: SessionStarted) -> SessionStarted:
        """The start of a replay of the session that began with `start`.

        Raises:
            ValueError: if its own settings and these can't be honoured together.
        """
        changed: dict[str, Any] = {
            "engine": self.engine or start.engine,
            "language": start.language if self.language is None else self.language,
            _SPEAKER_LABELS: self.speaker_labels or start.speaker_labels,
        }
        if self.segmenter:
            changed["segmenter"] = _with_changes(start.segmenter, self.segmenter)
        return pin_start(start, **changed)


def checked_name(name: str) -> str:
    """The name of a run, if it may be a replay's.

    Raises:
        ValueError: if not.
    """
    if name == LIVE_RUN:
        raise ValueError(f"{LIVE_RUN} is the client's own run; a replay needs another name")
    if not RUN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} can't name a run: letters, digits, `.`, `_` and `-`, at most 64, no sign in front")
    return name


def _split(pair: str) -> tuple[str, str]:
    name, separator, value = pair.partition("=")
    if name not in SETTABLE:
        nearest = difflib.get_close_matches(name, SETTABLE, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else f", only {', '.join(SETTABLE)}"
        raise ValueError(f"no run pins {name!r}{hint}")
    if not separator or not value:
        raise ValueError(f"{name} needs a value: {name}=…")
    return name, value


def _integer(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name}: a whole number, not {value!r}") from None


def _with_changes(own: Mapping[str, Any], changes: Mapping[str, int]) -> dict[str, Any]:
    """A session's segmenter settings, changed.

    Raises:
        ValueError: if they can't be honoured; the message names the one to blame.
    """
    # msgspec's ValidationError is a ValueError, and keeps the text of those that the settings raise themselves.
    found: dict[str, Any] = msgspec.to_builtins(msgspec.convert({**own, **changes}, SegmenterSettings))
    return found
