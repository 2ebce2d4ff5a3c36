"""The project's pages: every link has its target."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tree
from tests.support.tree import ROOT

PAGES = [path for path in tree.files() if path.suffix == ".md"]
LINK = re.compile(r"\]\(([^()\s]*)\)")
OUTSIDE = re.compile(r"[a-z]+:")


def prose(page: Path) -> str:
    """A page without its code, in which brackets mean other things."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page: its headings in lower case, without punctuation, with hyphens for blanks."""
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> Iterator[str]:
    """The links of a page without a target inside the project."""
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        if OUTSIDE.match(link):
            continue
        if not found.exists() or not found.is_relative_to(ROOT) or (anchor and anchor not in anchors(found)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_has_a_target(page: Path) -> None:
    """Every relative link names a file of the project, and a heading in it where it names one."""
    assert list(broken(page)) == []


def test_every_page_is_reached_from_the_readme() -> None:
    """From README.md, or from the index that it names, each page under docs/ is linked."""
    linked = set(LINK.findall(prose(ROOT / "README.md")))
    linked |= {f"docs/{link}" for link in LINK.findall(prose(ROOT / "docs/README.md"))}
    pages = {path.relative_to(ROOT).as_posix() for path in PAGES if path.parent.name == "docs"}
    assert pages - linked == set()
