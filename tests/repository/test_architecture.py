"""The table of keys in ARCHITECTURE.md."""

import re

from scripts.key_table import table
from tests.support.tree import ROOT


def test_key_table_is_current() -> None:
    """The table of keys in ARCHITECTURE.md is the one that eventlog/keys.py gives."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    [printed] = re.findall(r"<!-- keys -->\n(.*?)<!-- /keys -->", text, re.DOTALL)
    assert printed == table()
