"""What a client chose for the recognition of its speech, and how it changes in mid-session. Pure."""

from __future__ import annotations

import msgspec

from eventlog.events import OptionsChanged, SessionStarted


class SpeechOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options in force for one utterance; see the fields of the same names of `SessionStarted`.

    Attributes:
        language: The language spoken, as a tag such as "en-US"; "auto": the recogniser detects it.
        model: One of the deployment's models; empty: its default.
        terms: Key terms that the speech may name.
        prompt: Text that the recogniser takes as said before.
        partial_interval_ms: Between two partials of an utterance; 0: the worker's setting.
        hangover_ms: The pause that ends the utterance.
    """

    language: str
    model: str
    terms: tuple[str, ...]
    prompt: str
    partial_interval_ms: int
    hangover_ms: int


def options_in_force(start: SessionStarted, hangover_ms: int, changed: OptionsChanged | None) -> SpeechOptions:
    """The options of a session that began with `start` and its pinned `hangover_ms`, after all of `changed`."""
    pinned = SpeechOptions(
        language=start.language, model=start.model, terms=start.terms, prompt=start.prompt,
        partial_interval_ms=start.partial_interval_ms, hangover_ms=hangover_ms,
    )  # fmt: skip
    return pinned if changed is None else msgspec.structs.replace(pinned, **_given(changed))


def merge_changes(earlier: OptionsChanged | None, later: OptionsChanged) -> OptionsChanged:
    """Both changes as one: of an option that both name, the later value holds."""
    return later if earlier is None else msgspec.structs.replace(earlier, **_given(later))


def _given(changed: OptionsChanged) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(changed).items() if value is not None}
