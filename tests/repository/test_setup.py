"""The set-up files: locks, make, continuous integration, Procfile."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest

from tests.support.tree import ROOT

LOCKS = ["requirements.lock", "requirements-dev.lock"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked(name: str) -> dict[str, str]:
    """The version of each distribution in a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))


def required(*extras: str) -> set[str]:
    """The distributions that the project itself requires."""
    found = PROJECT["dependencies"] + [one for extra in extras for one in PROJECT["optional-dependencies"][extra]]
    return {re.split(r"[\[<>=]", one)[0].lower() for one in found}


@pytest.mark.parametrize("name", LOCKS)
def test_lock_has_hashes_and_no_addresses(name: str) -> None:
    """Every locked requirement is exact and hashed, and the lock holds no index, link or path."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for forbidden in ("://", "--index", "--extra-index", "--find-links", "--trusted", "file:", "-e ", " @ "):
        assert forbidden not in text
    requirements = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    assert len(requirements) == len(locked(name)) > 30
    assert [one for one in requirements if not re.search(r"--hash=sha256:[0-9a-f]{64}", one)] == []


def test_locks_cover_all_requirements() -> None:
    """The run's lock covers run, speech and the embedded server; the other one covers all extras."""
    assert required("whisper", "whisper-model", "embedded", "build") <= set(locked("requirements.lock"))
    assert required(*PROJECT["optional-dependencies"]) <= set(locked("requirements-dev.lock"))


def test_both_locks_agree() -> None:
    """Both locks have the same version of each distribution in both, and the run's lock has no others."""
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()
    assert not {"torch", "pytest", "ruff", "mypy"} & set(locked("requirements.lock"))


def test_make_lists_its_targets() -> None:
    """`make` alone lists every target with its description."""
    done = subprocess.run(
        [shutil.which("make") or "make"], cwd=ROOT, check=True, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))})
    listed = set(re.findall(r"^  ([a-z]+) +[A-Z]", done.stdout, re.MULTILINE))
    assert listed == {"help", "run", "test", "chaos", "simulate", "check", "bench", "lock", "docs", "clean"}


def test_continuous_integration_runs_tests_and_checks() -> None:
    """`.ci/run` is executable, stops at the first failure and runs `make test` and `make check`."""
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines
    assert [line for line in lines if line.startswith("make")] == ["make test", "make check"]


def test_procfile_has_a_process_for_every_role() -> None:
    """The Procfile runs each role with the command line's own words."""
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    assert lines == ["edge: stenolog edge", "worker: stenolog worker", "projector: stenolog projector"]
