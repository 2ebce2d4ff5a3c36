"""The project's own files, for the tests of the repository."""

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("eventlog", "edge", "processor", "projections", "stenolog")
SKIPPED = re.compile(r"^(\..*|__pycache__|data|dist|.*\.egg-info)$")
TEXTS = frozenset({".py", ".lua", ".md", ".toml", ".lock", ".tsv", ".sh", ".yml", ".json", ""})
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file."""

    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """The source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The source, parsed."""
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        """Number of lines."""
        return self.text.count("\n")

    def functions(self) -> Iterator[Function]:
        """All functions and methods, nested ones too."""
        yield from (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def imports(self) -> set[str]:
        """Full names of all modules that are imported anywhere in it."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
        return found

    def strings(self) -> Iterator[str]:
        """All texts in it but docstrings; the parts of an f-string one by one."""
        documentation = {id(node.value) for node in ast.walk(self.tree)
                         if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                yield node.value


def length(function: Function) -> int:
    """Lines from `def` to the end, the docstring not counted, as long explanations are welcome."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


@cache
def files() -> tuple[Path, ...]:
    """Every text file of the project, caches and hidden directories left out."""
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = sorted(name for name in below if not SKIPPED.match(name))
        found += [Path(folder) / name for name in sorted(names) if Path(name).suffix in TEXTS and name[0] != "."]
    return tuple(found)


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """The Python files under these top-level folders."""
    return tuple(Module(path) for path in files()
                 if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders)


@cache
def scripts() -> tuple[Path, ...]:
    """The Lua files of all packages."""
    return tuple(path for path in files() if path.suffix == ".lua")
