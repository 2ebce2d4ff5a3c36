import re
from importlib.metadata import EntryPoint

import pytest

from processor.recognisers import RecogniserError, loading
from processor.recognisers.mock import MockRecogniser


def test_built_in_recognisers_need_no_installed_metadata() -> None:
    """The built-in names load from a bare checkout."""
    assert loading.load("mock").name == "mock"


def test_others_plug_in_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's entry point in the group is loaded by its name, with the settings as keywords."""
    point = EntryPoint("parrot", "processor.recognisers.mock:MockRecogniser", loading.ENTRY_POINT_GROUP)
    monkeypatch.setattr(loading, "entry_points", lambda group: [point] if group == point.group else [])
    assert isinstance(loading.load("parrot"), MockRecogniser)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("parrot", {}, "no recogniser named parrot; known: mock"),
        ("mock", {"speed": 1}, "refused its settings (speed)"),
    ],
)
def test_an_unknown_name_or_setting_is_an_error(name: str, settings: dict[str, object], message: str) -> None:
    """An unknown name or setting is an error that names it, which no retry can fix."""
    with pytest.raises(RecogniserError, match=re.escape(message)) as raised:
        loading.load(name, **settings)
    assert not raised.value.retryable


def test_a_plug_in_without_the_newer_attributes_gets_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORD-8: a recogniser that names neither languages nor model is one of unknown languages and model."""

    class Parrot:
        name, max_batch, max_parallel = "parrot", 1, 1

    monkeypatch.setitem(loading._BUILT_IN, "parrot", (__name__, "Parrot"))
    monkeypatch.setattr(loading, "import_module", lambda _: type("Module", (), {"Parrot": Parrot}))
    parrot = loading.load("parrot")
    assert (parrot.languages, parrot.model) == (frozenset(), "")
