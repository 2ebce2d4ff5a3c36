"""Runs the command line as a user does: another process, nothing but its output and exit status."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.tree import ROOT

TIMEOUT_S = 60


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would configure Stenolog, and with `variables`."""
    clean = {
        name: value for name, value in os.environ.items()
        if not name.startswith("STENOLOG_") and name not in {"REDIS_URL", "NO_COLOR", "FORCE_COLOR"}
    }
    return {**clean, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables}


def stenolog(
    *arguments: str, cwd: Path, variables: Mapping[str, str] | None = None, data: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `stenolog` with these arguments in directory `cwd`, `data` on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "stenolog", *arguments], cwd=cwd, env=environment(**(variables or {})), input=data,
        capture_output=True, timeout=TIMEOUT_S, check=False,
    )
