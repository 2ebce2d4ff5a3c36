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
