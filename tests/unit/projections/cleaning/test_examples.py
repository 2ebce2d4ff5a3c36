"""The cleaner does what the examples of docs/cleaning.md show."""

import re

import pytest

from projections.cleaning import clean
from tests.support.tree import ROOT
from tests.unit.projections.cleaning.spoken import said

ROWS = [row.strip("|").split("|") for row in (ROOT / "docs/cleaning.md").read_text(encoding="utf-8").splitlines()
        if row.startswith("|") and row.count("`") >= 4]
EXAMPLES = [(re.findall("`([^`]+)`", cells[-2]), re.findall("`([^`]+)`", cells[-1])[0]) for cells in ROWS]


@pytest.mark.parametrize(("utterances", "after"), EXAMPLES, ids=lambda value: str(value)[:40])
def test_examples_of_the_page_hold(utterances: list[str], after: str) -> None:
    """BATCH-3: every example on the page gives its result, and cleaning the result again changes nothing."""
    assert clean(said(*utterances), "en") == after
    assert clean(said(after), "en") == after


def test_the_page_has_examples() -> None:
    """The page's tables are found."""
    assert len(EXAMPLES) > 20
