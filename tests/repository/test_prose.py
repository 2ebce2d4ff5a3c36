"""The project's prose: no word of the list in scripts/check_prose.py, and the checker finds what it must."""

import pytest

from scripts.check_prose import ROOT, documents, findings

FOUND = {
    "docstring": ("eventlog/a.py", '"""Whoever reads it."""\n', 1, "Whoever"),
    "second line": ("eventlog/a.py", 'def f():\n    """Reads.\n\n    Nobody waits.\n    """\n', 4, "Nobody"),
    "attribute's docstring": ("edge/a.py", 'class A:\n    x = 1\n    """What is kept."""\n', 3, "What is"),
    "comment": ("processor/a.py", "x = 1\ny = 2  # a bell rings\n", 2, "bell"),
    "log message": ("processor/a.py", 'log.info("the client was told to go")\n', 1, "told"),
    "error message": ("stenolog/a.py", 'raise ValueError("there is no such run")\n', 1, "there is"),
    "part of an f-string": ("stenolog/a.py", 'print(f"{n} runs are set aside now")\n', 1, "set aside"),
    "page": ("docs/a.md", "# A page\n\nText, and trouble.\n", 3, "trouble"),
    "Lua comment": ("eventlog/redis/lua/a.lua", "local x = 1 -- as it is\n", 1, "as it is"),
    "several words": ("edge/a.py", '"""The session goes on."""\n', 1, "goes on"),
    "comment of a test": ("tests/unit/test_a.py", "# somebody waits\n", 1, "somebody"),
    "docstring of a test": ("tests/unit/test_a.py", 'def test_a():\n    """A client is told."""\n', 2, "told"),
}  # fmt: skip
"""Kind of prose, to a file's path and text, and the line and word that must be found."""

LEFT_ALONE = {
    "code span of a page": ("docs/a.md", "The field `told` says it.\n"),
    "fence of a page": ("docs/a.md", "Text.\n\n```sh\necho who is there\n```\n"),
    "code span of a docstring": ("edge/a.py", '"""Reads ``set_aside`` and `bell`."""\n'),
    "parameter in a docstring": ("edge/a.py", '"""Swap.\n\nArgs:\n    mend: Whether to repair.\n"""\n'),
    "path": ("docs/a.md", "See docs/set_aside.md and https://example.com/bell for it.\n"),
    "name": ("edge/a.py", "def told(bell: int) -> int:\n    return bell\n"),
    "short string, a name or value": ("edge/a.py", 'kind = "set aside"\n'),
    "code of a Lua script": ("eventlog/redis/lua/a.lua", "local bell = redis.call('GET', KEYS[1])\n"),
    "data string of a test": ("tests/unit/test_a.py", 'text = "nobody was told that there is a bell"\n'),
    "word that contains one": ("docs/a.md", "The whole belly of a stolid toldo.\n"),
}
"""Kind of text without findings, to a file's path and text."""


def test_the_projects_prose_has_no_word_of_the_list() -> None:
    """Docstrings, comments, messages and pages name the actor and use the terms of the glossary."""
    found = [
        str(one) for path in documents([]) for one in findings(path, (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("what", FOUND)
def test_a_word_of_the_list_is_found(what: str) -> None:
    """The checker finds a word wherever prose stands, and names its line."""
    path, text, line, word = FOUND[what]
    found = [(one.line, one.word) for one in findings(path, text)]
    assert found == [(line, word)]


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_code_and_data_are_left_alone(what: str) -> None:
    """The checker has no finding in code, in names, and in the data of tests."""
    assert list(findings(*LEFT_ALONE[what])) == []


def test_the_checker_reads_every_kind_of_file() -> None:
    """It reads packages, scripts, tests and pages, and leaves out golden files and the changelog."""
    read = set(documents([]))
    assert {"eventlog/keys.py", "tests/conftest.py", "docs/chaos.md", "README.md", "scripts/key_table.py"} <= read
    assert any(path.endswith(".lua") for path in read)
    assert not any(path.startswith(("tests/golden/", "CHANGELOG")) for path in read)
