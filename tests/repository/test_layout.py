"""The layout of the tests: each kind in its folder."""

import ast
from collections.abc import Iterator

import pytest

from tests import conftest
from tests.support import tree
from tests.support.tree import ROOT, Module

SERVER_FIXTURES = {
    "server", "standalone", "cluster", "redis_url", "cluster_url", "deployment", "single", "emulator", "up",
    "secured_up",
}  # fmt: skip
"""Fixtures that start a server or a process."""

SERVER_MODULES = {"subprocess", "tests.support.servers", "tests.support.commands", "tests.support.deadly_workers"}
"""Modules that start one."""

KINDS = {"unit", "integration", "e2e", "simulation", "chaos", "repository"}


def unit_tests() -> Iterator[Module]:
    """The modules under tests/unit, its conftest apart, which forbids processes."""
    for module in tree.modules("tests"):
        if str(module).startswith("tests/unit/") and str(module) != "tests/unit/conftest.py":
            yield module


def parameters(module: Module) -> set[str]:
    """The names of all parameters in a module, fixtures among them."""
    return {
        argument.arg for function in module.functions()
        for argument in [*function.args.args, *function.args.kwonlyargs]
    }


def used_fixtures(module: Module) -> set[str]:
    """The fixtures that a module names in `usefixtures`."""
    return {
        argument.value for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "usefixtures"
        for argument in node.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def test_unit_tests_need_no_server_and_no_process() -> None:
    """No module under tests/unit uses a fixture of a server, or imports a module that starts one."""
    wrong = {
        str(module): sorted(found) for module in unit_tests()
        if (found := (parameters(module) | used_fixtures(module)) & SERVER_FIXTURES | module.imports() & SERVER_MODULES)
    }
    assert wrong == {}


def test_every_test_belongs_to_a_kind() -> None:
    """Each test module lies in the folder of a kind, which tests/README.md describes."""
    page = (ROOT / "tests/README.md").read_text(encoding="utf-8")
    kinds = {str(module).split("/")[1] for module in tree.modules("tests") if module.path.name.startswith("test_")}
    assert kinds == KINDS
    assert all(f"`{kind}/" in page for kind in KINDS)


@pytest.mark.parametrize("table", ["E2E", "SLOW"])
def test_markers_name_existing_tests(table: str) -> None:
    """Each folder and module that tests/conftest.py marks exists."""
    assert [path for path in getattr(conftest, table) if not (ROOT / path).exists()] == []
