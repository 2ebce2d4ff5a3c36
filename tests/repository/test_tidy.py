"""The project's own rules, as far as a machine can check them."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support import tree
from tests.support.tree import PACKAGES, ROOT, Module

MODULE_LINES = 400
FUNCTION_LINES = 60
# Name of a module or `module:function` to why it may be longer. This may only shrink.
LONGER: dict[str, str] = {}

# Package to the packages that it may import.
LAYERS = {
    "eventlog": set[str](),
    "edge": {"eventlog"},
    "processor": {"eventlog"},
    "projections": {"eventlog"},
    "stenolog": {"eventlog", "edge", "processor", "projections"},
}
# Modules that only compute: the same input gives the same output.
PURE = re.compile(
    r"processor/(speech/.*|decoding/(channel_mixer|child_protocol|containers|layout_judge|layouts|restart_points)\.py|(timeline|facts|provisional_text|fair_turns|arrival_pace)\.py)"
    r"|edge/(session/(lifecycle|uplink|parameters)|websocket/messages|views/exports)\.py"
    r"|edge/ingest/(multipart|formats|identity|preferences)\.py|edge/captions/.*\.py"
    r"|projections/eventbridge/(bodies|entries|responses)\.py"
    r"|stenolog/operations/(aws/desired_state|transcript_diff)\.py"
    r"|projections/cleaning/.*\.py|projections/forwarding/(run_scheduler|event_batches)\.py"
    r"|projections/(public_json|lists|feeds|sessions|status|kafka/(records|talk_time))\.py"
    r"|eventlog/(archive/(layout|manifest|part_cutter)|appender|events|codec|keys|positions|projection/webhook_targets)\.py")
IMPURE = {
    "redis", "asyncio", "starlette", "uvicorn", "httpx2", "websockets", "socket", "subprocess", "threading", "time",
}

HEADER = ("Purpose", "KEYS", "ARGV", "Returns", "Atomic", "Retry")


def product() -> tuple[Module, ...]:
    """The modules that are shipped or measured, not the tests."""
    return tree.modules(*PACKAGES, "benchmarks")


def all_tests() -> Iterator[tuple[Module, tree.Function]]:
    """Every test function."""
    for module in tree.modules("tests"):
        if module.path.name.startswith("test_"):
            yield from ((module, one) for one in module.functions() if one.name.startswith("test_"))


def test_modules_are_short() -> None:
    """No module is over 400 lines."""
    assert [f"{one} {one.lines}" for one in product() if one.lines > MODULE_LINES and str(one) not in LONGER] == []


def test_functions_are_short() -> None:
    """No function is over 60 lines, its docstring not counted."""
    lengths = {f"{module}:{one.name}:{one.lineno}": tree.length(one)
               for module in (*product(), *tree.modules("tests")) for one in module.functions()}
    assert {name: lines for name, lines in lengths.items()
            if lines > FUNCTION_LINES and name.rpartition(":")[0] not in LONGER} == {}


def test_exceptions_are_needed() -> None:
    """The list of longer modules and functions names only existing longer ones."""
    sizes = {str(one): one.lines - MODULE_LINES for one in product()}
    sizes |= {f"{module}:{one.name}": tree.length(one) - FUNCTION_LINES
              for module in (*product(), *tree.modules("tests")) for one in module.functions()}
    assert [name for name in LONGER if sizes.get(name, 0) <= 0] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_downwards_only(package: str) -> None:
    """Only the composition root imports all packages; edge, processor and projections import eventlog alone."""
    allowed = LAYERS[package] | {package}
    wrong = {str(module): name for module in tree.modules(package) for name in module.imports()
             if name.split(".")[0] in {*PACKAGES, "tests", "benchmarks"} - allowed}
    assert wrong == {}


def test_layers_hold_over_several_steps() -> None:
    """The contracts in pyproject.toml hold, indirect imports included."""
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert linter, "import-linter is not installed beside this Python"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pure_modules_do_no_input_or_output() -> None:
    """Pure modules import no Redis, event loop, server, socket, thread or clock."""
    wrong = {str(module): sorted(found) for module in product() if PURE.fullmatch(str(module))
             if (found := {name.split(".")[0] for name in module.imports()} & IMPURE)}
    assert wrong == {}


def test_key_text_is_made_in_one_place() -> None:
    """Text that looks like a part of a Redis key is in eventlog/keys.py alone."""
    source = (ROOT / "eventlog/keys.py").read_text(encoding="utf-8")
    kinds = set(re.findall(r'_key\(f?"([a-z-]+)', source)) | set(re.findall(r'\}:([a-z-]+)[:"]', source))
    assert {"audio", "transcript", "sessions"} <= kinds
    kind = "|".join(sorted(kinds))
    key_like = re.compile(rf"(^|[}}:])({kind}):(?=[^\s:]|$)|\}}:({kind})$|\{{stenolog\}}")
    wrong = [(str(module), text) for module in product() if str(module) != "eventlog/keys.py"
             for text in module.strings() if key_like.search(text)]
    wrong += [(path.name, text) for path in tree.scripts()
              for text in re.findall(r"'([^']*)'", path.read_text(encoding="utf-8")) if key_like.search(text)]
    assert wrong == []


@pytest.mark.parametrize("path", tree.scripts(), ids=lambda path: path.stem)
def test_scripts_begin_with_their_contract(path: Path) -> None:
    """Every Lua script states purpose, keys, arguments, reply, atomicity and retry, in that order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.parent.name == "includes":
        assert lines[0].startswith("-- ")
        return
    assert re.fullmatch(r"#!lua( flags=[a-z,-]+)?", lines[0])
    labels = [match[1] for line in lines if (match := re.match(r"-- ([A-Za-z]+): +\S", line))]
    assert labels == list(HEADER)


@pytest.mark.parametrize("path", tree.scripts(), ids=lambda path: path.stem)
def test_scripts_use_the_keys_that_they_name(path: Path) -> None:
    """The numbers in a script's KEYS line run from 1 to the highest that the body uses, and so with ARGV."""
    text = path.read_text(encoding="utf-8")
    for label in ("KEYS", "ARGV"):
        numbers = numbered(text, label)
        used = {int(number) for number in re.findall(rf"{label}\[(\d+)\]", text)}
        assert numbers == list(range(1, len(numbers) + 1))
        if numbers:
            assert used <= set(numbers)


def numbered(text: str, label: str) -> list[int]:
    """The numbers before the names in one entry of a script's header."""
    entry = re.search(rf"^-- {label}:(.*(?:\n--  .*)*)", text, re.MULTILINE)
    return [int(number) for number in re.findall(r"(?:^|,\s)[\s-]*(\d+) [\"a-zA-Z]", entry[1] if entry else "")]


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call whose arguments begin with `script("name")`."""
    for module in product():
        for node in ast.walk(module.tree):
            match getattr(node, "args", None):
                case [ast.Call(func=ast.Name(id="script"), args=[ast.Constant(value=str(name)), *_]), *_]:
                    yield name, cast("ast.Call", node)


def test_scripts_are_called_with_the_keys_that_they_name() -> None:
    """Where the keys of a call are listed, they are as many as the script's header names."""
    headers = {path.stem: numbered(path.read_text(encoding="utf-8"), "KEYS") for path in tree.scripts()}
    checked = 0
    for name, call in calls():
        match call.args[1:]:
            case [ast.List(elts=keys), *_] if headers[name] and not any(isinstance(key, ast.Starred) for key in keys):
                assert len(keys) == len(headers[name]), name
                checked += 1
    assert checked > 3


def test_every_script_is_loaded_by_one_place() -> None:
    """Each Lua script is named in one module of the code, and each shared part is used."""
    named = [text for module in product() for text in arguments(module)]
    included = [name for path in tree.scripts()
                for name in re.findall(r'^--- @include "([a-z_]+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)]
    counts = {path.stem: (included.count(path.stem) > 0) if path.parent.name == "includes" else named.count(path.stem)
              for path in tree.scripts()}
    assert {name: count for name, count in counts.items() if count != 1} == {}


def arguments(module: Module) -> set[str]:
    """The texts among the arguments of calls."""
    return {argument.value for node in ast.walk(module.tree) if isinstance(node, ast.Call)
            for argument in node.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)}


def test_tests_wait_on_signals_not_on_time() -> None:
    """No test waits for a fixed time; tests/support/waiting.py alone does, between two checks or during a fault."""
    wrong = [f"{module}:{node.lineno}" for module in tree.modules("tests")
             for node in ast.walk(module.tree)
             if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "sleep"]
    assert [one for one in wrong if not one.startswith("tests/support/waiting.py")] == []


def test_tests_read_as_statements() -> None:
    """The docstring of each test is one sentence that states a behaviour."""
    wrong = [f"{module}:{one.name}" for module, one in all_tests() if not is_sentence(ast.get_docstring(one) or "")]
    assert wrong == []


def is_sentence(text: str) -> bool:
    """Whether it is one sentence: a full stop at the end, and none before a capital."""
    return text.endswith(".") and not re.search(r"[.!?]\s+[A-Z]", text)


def test_nothing_is_left_for_later_or_tied_to_one_machine() -> None:
    """No file holds a note for later work, a path of one machine or the host of a package index."""
    # Put together here, so that they don't stand in this file either.
    names = (("pypi", "org"), ("python.hosted".replace(".", ""), "org"), ("registry", "npmjs"))
    hosts = [r"\.".join(parts) for parts in names]
    unwanted = re.compile("|".join([
        r"\b(TODO|FIXME|XXX)\b|(?<![\w.])/(work|root|home|Users)/\w", *hosts,
    ]))
    wrong = [f"{path.relative_to(ROOT)}: {found[0]}" for path in tree.files() if path != Path(__file__)
             if (found := unwanted.search(path.read_text(encoding="utf-8")))]
    assert wrong == []
