"""What pages, comments and docstrings name exists: settings, metrics, files, modules, commands."""

import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from stenolog.cli import cli
from stenolog.settings.load import CLIENT_VARIABLES, MEASURING_VARIABLES
from stenolog.settings.model import fields
from tests.support import tree
from tests.support.tree import PACKAGES, ROOT, Module

PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "tests/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
OURS = (*PACKAGES, "benchmarks", "scripts", "examples", "tests", "docs")
SOURCES = tree.modules(*PACKAGES, "benchmarks", "scripts", "examples", "tests")

NO_MODULES = frozenset({"stenolog.recognisers", "stenolog.transcripts", "stenolog.batches"})
"""An entry point's group, and two topics of Kafka."""

NO_FILES = frozenset({"stenolog/6a52"})
"""The beginning of an object's key in an example."""

FOLDERS = "|".join(OURS)
PATH = re.compile(rf"(?<![\w./<-])(?:{FOLDERS})/[\w./*<>-]*[\w*>]")
FILE = re.compile(r"(?<![\w./*…<-])[a-z]\w*\.(?:py|lua)\b(?![\w(])")
DOTTED = re.compile(rf"(?<![\w./-])(?:{FOLDERS})(?:\.\w+)+(?![\w/])")
METRIC = re.compile(r"(?<![\w.])stenolog_[a-z0-9_]+")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^|[`($|&;] ?|/)stenolog ([a-z][^`\n|;&)#]*)", re.MULTILINE)
RUN_MODULE = re.compile(r"python -m ([\w.]+)")


def text_of(page: Path) -> str:
    """A page's text."""
    return page.read_text(encoding="utf-8")


def code_of(page: Path) -> str:
    """A page's code, blocks and spans."""
    return "\n".join(CODE.findall(text_of(page)))


def remarks(module: Module) -> Iterator[str]:
    """A module's comments and docstrings."""
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
            yield token.string


@cache
def file_names() -> frozenset[str]:
    """The names of all files."""
    return frozenset(path.name for path in tree.files())


@cache
def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            # An attribute that is set in a constructor exists on no class: its annotation or its class must do.
            if not hasattr(found, part) and part not in getattr(found, "__annotations__", {}):
                return False
            found = getattr(found, part, None)
        return True
    return False


def missing_files(text: str) -> Iterator[str]:
    """Paths and names of our files in a text that do not exist."""
    for path in PATH.findall(text):
        stem = re.split(r"[*<]", path)[0]
        found = any((ROOT / stem).parent.glob(f"{(ROOT / stem).name}*")) if stem != path else (ROOT / path).exists()
        if not found and path not in NO_FILES:
            yield path
    yield from (name for name in FILE.findall(text) if name not in file_names())


def missing_modules(text: str) -> Iterator[str]:
    """Dotted names of our packages in a text that nothing has."""
    for dotted in DOTTED.findall(text):
        if dotted not in NO_MODULES and not exists(dotted):
            yield dotted


def unknown_words(line: str) -> Iterator[str]:
    """Command, subcommand and options of a command line that the command line does not have."""
    context = click.Context(cli)
    name, *words = line.split()
    command = cli.get_command(context, name)
    if isinstance(command, click.Group) and words and re.fullmatch("[a-z-]*[a-z]", words[0]):
        name = f"{name} {words[0]}"
        command = command.get_command(context, words[0])
    if command is None:
        yield name
        return
    options = {name for one in command.get_params(context) for name in (*one.opts, *one.secondary_opts)}
    yield from (f"{name} {word}" for word in words if re.match("--[a-z]", word) and word.split("=")[0] not in options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    """A page names settings, or a beginning that several of them share."""
    known = {field.variable for field in fields()} | CLIENT_VARIABLES | MEASURING_VARIABLES
    shared = {name[: end.start() + 1] for name in known for end in re.finditer("_", name)}
    assert set(re.findall(r"STENOLOG_\w*", text_of(page))) - known - shared == set()


def metrics_of_code() -> set[str]:
    """The metrics' names as the code has them, counters without their ending."""
    texts = "\n".join(module.text for module in tree.modules(*PACKAGES))
    return set(re.findall(r'"(stenolog_[a-z0-9_]+)"', texts))


def test_every_metric_is_described() -> None:
    """docs/observability.md has every metric of the code."""
    described = set(METRIC.findall(text_of(ROOT / "docs/observability.md")))
    assert {name for name in metrics_of_code() if not {name, f"{name}_total"} & described} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    """A page names metrics of the code."""
    known = metrics_of_code()
    named = {re.sub(r"_(?:total|count|sum|bucket)$", "", name) for name in METRIC.findall(code_of(page))}
    assert {name for name in named if not name.endswith("_")} - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_and_module_that_a_page_names_exists(page: Path) -> None:
    """Paths, file names and dotted names on a page lead to something."""
    assert [*missing_files(text_of(page)), *missing_modules(code_of(page))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    """A page names commands, subcommands and options that the command line has, and modules that can be run."""
    lines = COMMAND.findall(code_of(page).replace("\\\n", " "))
    modules = [name for name in RUN_MODULE.findall(text_of(page)) if name.split(".")[0] in OURS]
    assert [one for line in lines for one in unknown_words(line)] == []
    assert [name for name in modules if not exists(name)] == []


@pytest.mark.parametrize("module", SOURCES, ids=str)
def test_every_file_and_module_that_a_remark_names_exists(module: Module) -> None:
    """Paths and dotted names in comments and docstrings lead to something."""
    assert [one for text in remarks(module) for one in (*missing_files(text), *missing_modules(text))] == []
