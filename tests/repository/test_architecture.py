"""The tables of ARCHITECTURE.md that are drawn from the code."""

import re

import pytest

from scripts.key_table import table
from tests.integration.paths import test_chunk_path, test_event_path
from tests.support.tree import ROOT

CODE = r"`([\w.]+:[\w.]+)`"


def marked(name: str) -> str:
    """The text between a pair of markers."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    [found] = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    return str(found)


def test_key_table_is_current() -> None:
    """The table of keys in ARCHITECTURE.md is the one that eventlog/keys.py gives."""
    assert marked("keys") == table()


@pytest.mark.parametrize(
    ("name", "path"), [("chunk path", test_chunk_path.PATH), ("event path", test_event_path.PATH.split())]
)
def test_the_paths_are_current(name: str, path: tuple[str, ...]) -> None:
    """The functions that ARCHITECTURE.md lists for a chunk and for an event are those that ran for one, in order."""
    assert tuple(re.findall(CODE, marked(name))) == tuple(path)
