"""What workers can recognise, as their heartbeats state it, and whether a session's options are among that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from eventlog.work.heartbeats import Heartbeat
from eventlog.work.uploads import ALIVE_MS, WORKER

AUTO = "auto"
"""In place of a language: the recogniser detects it; one that has a single language takes that."""

FIELD = "abilities"
"""Of a worker's heartbeat."""


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker's recogniser can do."""

    engine: str
    models: tuple[str, ...] = ()
    """Empty: unknown, so that any is tried."""
    languages: tuple[str, ...] = ()
    """Primary subtags, such as ``en``. Empty: unknown, so that any is tried."""

    def may_speak(self, language: str) -> bool:
        """Whether a text in `language` can be recognised."""
        return not self.languages or language == AUTO or primary_subtag(language) in self.languages

    def may_use(self, model: str) -> bool:
        """Whether `model` is there; the default always is."""
        return not model or not self.models or model in self.models


class Refusal(NamedTuple):
    """Why no worker can process a session, for its client."""

    option: str
    """``language`` or ``model``."""
    detail: str


def primary_subtag(language: str) -> str:
    """The language of a tag, without script and region: ``pt`` of ``pt-BR``."""
    return language.replace("_", "-").partition("-")[0].lower()


def abilities_of(recogniser: object, engine: str) -> Abilities:
    """The abilities of a recogniser, by its attributes `languages`, `models` and `model` as far as it has them."""
    model: str = getattr(recogniser, "model", "")
    models: Iterable[str] = getattr(recogniser, "models", ()) or ([model] if model else ())
    languages: Iterable[str] = getattr(recogniser, "languages", ())
    return Abilities(engine=engine, models=tuple(sorted(models)), languages=tuple(sorted(languages)))


def living_abilities(beats: Iterable[Heartbeat], engine: str) -> list[Abilities]:
    """The abilities of all living workers with `engine`; of older versions, which state none, unknown ones."""
    found = []
    for beat in beats:
        if beat.role == WORKER and beat.age_ms < ALIVE_MS:
            one = _read(beat.payload.get(FIELD), engine)
            if one.engine == engine:
                found.append(one)
    return found


def find_refusal(workers: Iterable[Abilities], language: str, model: str) -> Refusal | None:
    """Why none of `workers` can process a session with these options; None if one can, or if none is known."""
    known = list(workers)
    with_model = [one for one in known if one.may_use(model)]
    if known and not with_model:
        return Refusal("model", f"model {model} is not offered; offered: {_listed(one.models for one in known)}")
    if with_model and not any(one.may_speak(language) for one in with_model):
        languages = _listed(one.languages for one in with_model)
        return Refusal("language", f"language {language} is not offered; offered: {languages}")
    return None


def _read(stated: Any, engine: str) -> Abilities:  # noqa: ANN401 - a member of a heartbeat
    try:
        return msgspec.convert(stated, Abilities)
    except msgspec.ValidationError:
        return Abilities(engine=engine)


def _listed(names: Iterable[Iterable[str]]) -> str:
    return ", ".join(sorted({name for some in names for name in some}))
