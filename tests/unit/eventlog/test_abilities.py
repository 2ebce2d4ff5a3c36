"""What workers can recognise, and which sessions they can take together."""

from typing import Any

import pytest

from eventlog.work.abilities import FIELD, Abilities, abilities_of, find_refusal, living_abilities
from eventlog.work.heartbeats import Heartbeat

ENGLISH = Abilities(engine="whisper", models=("tiny.en",), languages=("en",))
MANY = Abilities(engine="whisper", models=("small",), languages=("de", "en", "fr"))
UNKNOWN = Abilities(engine="whisper")


@pytest.mark.parametrize(("workers", "language", "model", "option"), [
    ([], "de", "large", None),
    ([ENGLISH], "en-US", "", None),
    ([ENGLISH], "EN_gb", "tiny.en", None),
    ([ENGLISH], "de", "", "language"),
    ([ENGLISH], "auto", "", None),
    ([MANY], "auto", "", None),
    ([ENGLISH, MANY], "de-AT", "", None),
    ([ENGLISH, MANY], "de", "tiny.en", "language"),
    ([ENGLISH, MANY], "en", "large", "model"),
    ([ENGLISH, MANY], "pl", "", "language"),
    ([UNKNOWN], "pl", "large", None),
    ([ENGLISH, UNKNOWN], "pl", "", None),
])  # fmt: skip
def test_a_session_is_refused_if_no_worker_can_do_it(
    workers: list[Abilities], language: str, model: str, option: str | None
) -> None:
    """Options are refused if no one worker has both, and taken where a worker's abilities are unknown (WORD-2)."""
    refusal = find_refusal(workers, language, model)
    assert (refusal and refusal.option) == option


def test_a_refusal_names_what_is_offered() -> None:
    """The message of a refusal lists the languages, or the models, that the workers have (WORD-2)."""
    refusals = [find_refusal([ENGLISH, MANY], *wanted) for wanted in (("pl", ""), ("en", "large"))]
    assert [one and one.detail for one in refusals] == [
        "language pl is not offered; offered: de, en, fr", "model large is not offered; offered: small, tiny.en",
    ]  # fmt: skip


class Recogniser:
    """A recogniser's attributes."""

    model = "small"
    languages = frozenset({"fr", "de"})


def test_a_recognisers_attributes_are_its_abilities() -> None:
    """A recogniser states model and languages by its attributes; one without them states nothing."""
    assert abilities_of(Recogniser(), "x") == Abilities(engine="x", models=("small",), languages=("de", "fr"))
    assert abilities_of(object(), "x") == Abilities(engine="x")


@pytest.mark.parametrize(("role", "age_ms", "payload", "counts"), [
    ("worker", 0, {"engine": "whisper", "languages": ["en"]}, True),
    ("worker", 3_600_000, {"engine": "whisper"}, False),
    ("replayer", 0, {"engine": "whisper"}, False),
    ("worker", 0, {"engine": "mock"}, False),
    ("worker", 0, None, True),
])  # fmt: skip
def test_living_workers_of_the_engine_count(role: str, age_ms: int, payload: Any, counts: bool) -> None:  # noqa: FBT001, ANN401
    """Only workers of clients' sessions that live and have the engine count; of an older version any may have it."""
    beat = Heartbeat(role, "a", age_ms, {FIELD: payload} if payload else {"runs": 1})
    assert len(living_abilities([beat], "whisper")) == counts
