"""Holds docstrings, comments, messages and documents to a word list: `python -m scripts.check_prose [PATH…]`.

A reader looks for the actor and for the field's term. The words below stand in for both, so each has a better one.
docs/glossary.md has the terms.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

WORDS = {
    r"who|whom|whoever": "name the actor: the client, the caller, the operator",
    r"somebody|someone|nobody|anybody|everybody": "name the actor, or use the passive voice of a named thing",
    r"told": "reported, notified, logged, answered",
    r"troubles?": "error, failure, outage",
    r"there (?:is|are|was|were)": "exists, remains, or a sentence with a subject",
    r"as it is": "unchanged",
    r"what (?:is|was|are|were|isn't|wasn't)": "name the thing: the chunk, the entry, the request",
    r"(?:bell|bells)": "wake-up",
    r"(?:set|sets|setting)[ -]aside": "quarantined (runs), dead-lettered (facts and events)",
    r"anew": "again, from the start",
    r"goodbyes?": "closing message",
    r"(?:go|goes|went|gone|going) on": "continue",
    r"for good": "permanently, finally",
    r"heed(?:s|ed|ing)?": "obey, apply",
    r"mend(?:s|ed|ing)?": "repair, fix",
    r"convict(?:s|ed|ing)?": "name what is decided: quarantine, fail, dead-letter",
    r"struck": "failed, hit, quarantined",
    r"untold": "unreported",
    r"hears?|heard": "receive (processes and clients), recognise (recognisers)",
    r"tells?": "report, state, log",
    r"let(?:s|ting)? go": "release",
    r"signs? of life": "heartbeat, activity",
}
"""Pattern of what no prose says, to what it says instead."""

_BANNED = re.compile("|".join(rf"(?P<w{number}>\b(?:{words})\b)" for number, words in enumerate(WORDS)), re.IGNORECASE)
_CODE = re.compile(r"``.+?``|`[^`\n]+`|\b\S*[/_]\S*\b|https?://\S+|^ +\w+:(?= )", re.MULTILINE)
"""Code spans, paths, addresses, and the names of parameters that a docstring describes."""

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_PROSE_WORDS = 3
"""A string constant of fewer words is a name or a value, not a sentence."""

_FOLDERS = (
    "eventlog", "edge", "processor", "projections", "stenolog", "benchmarks", "scripts", "tests", "docs", "examples",
)
_SKIPPED = ("CHANGELOG.md", "tests/golden/", "tests/recordings/", "scripts/check_prose.py", "docs/glossary.md")


class Finding(NamedTuple):
    """A word that should be another one."""

    path: str
    line: int
    word: str
    advice: str

    def __str__(self) -> str:
        """As compilers say it, so that editors can jump there."""
        return f"{self.path}:{self.line}: {self.word!r}: {self.advice}"


def findings(path: str, text: str) -> Iterator[Finding]:
    """Yield each word of the list in the prose of the file `path`, whose content is `text`."""
    for first_line, prose in _prose(path, text):
        plain = _CODE.sub(lambda code: re.sub(r"[^\n]", "_", code[0]), prose)
        for match in _BANNED.finditer(plain):
            advice = list(WORDS.values())[int(str(match.lastgroup)[1:])]
            yield Finding(path, first_line + plain.count("\n", 0, match.start()), match[0], advice)


def _prose(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the parts of a file that are sentences, each with the number of its first line."""
    if path.endswith(".md"):
        yield 1, _FENCE.sub(lambda fence: re.sub(r"[^\n]", "", fence[0]), text)
    elif path.endswith(".lua"):
        for number, line in enumerate(text.splitlines(), 1):
            _, dashes, comment = line.partition("--")
            if dashes:
                yield number, comment
    elif path.endswith(".py"):
        yield from _python_prose(text, is_test=path.startswith("tests/"))


def _python_prose(text: str, *, is_test: bool) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    tree = ast.parse(text)
    statements = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_sentence = not is_test and len(node.value.split()) >= _PROSE_WORDS
            if node in statements or is_sentence:
                yield node.lineno, node.value


def documents(paths: list[str]) -> Iterator[str]:
    """Yield the files that this check reads, all of the project or those under `paths`, relative to its root."""
    for top in paths or [*_FOLDERS, *(one.name for one in ROOT.glob("*.md"))]:
        start = ROOT / top
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in {".py", ".lua", ".md"} and not name.startswith(_SKIPPED):
                yield name


def main(paths: list[str]) -> int:
    """Print what is to be said otherwise; returns the exit status, 1 if anything is."""
    found = [one for path in documents(paths) for one in findings(path, (ROOT / path).read_text(encoding="utf-8"))]
    sys.stdout.writelines(f"{one}\n" for one in found)
    if found:
        sys.stdout.write(f"{len(found)} words that docs/glossary.md or scripts/check_prose.py has better ones for\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
