"""`stenolog replay` as a process of its own, over the Redis of a test."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.e2e.deployment import children, is_alive
from tests.support.commands import environment
from tests.support.deployment import PARTITIONS
from tests.support.waiting import eventually
from tests.support.watcher import Watcher

END_S = 60


class Command:
    """One such process; a context manager that leaves neither it nor its workers."""

    def __init__(self, redis_url: str, directory: Path, *arguments: str, **variables: str) -> None:
        """Will replay with the engine `mock` and these arguments, in `directory`."""
        self._arguments = arguments
        self._directory = directory
        self._environment = environment(
            REDIS_URL=redis_url, STENOLOG_PARTITIONS=str(PARTITIONS), STENOLOG_LEASE_MS="1000", **variables
        )
        self._seen: set[int] = set()
        self.stdout = self.stderr = ""

    def __enter__(self) -> Self:
        self._log = (self._directory / "stderr").open("w+")
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "stenolog", "replay", "--engine", "mock", *self._arguments], cwd=self._directory,
            env=self._environment, stdout=subprocess.PIPE, stderr=self._log, text=True, start_new_session=True,
        )  # fmt: skip
        self._watcher = Watcher(self.popen.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.stop()
        self.popen.kill()
        self.popen.communicate()
        self._log.close()
        eventually(lambda: not any(map(is_alive, self._seen)), END_S, "its workers have ended")

    def workers(self) -> list[int]:
        """Its living workers."""
        found = [pid for pid, name in children(self.popen.pid).items() if name == "worker"]
        self._seen.update(found)
        return found

    def output(self) -> str:
        """What it said on standard error so far."""
        return (self._directory / "stderr").read_text()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        self.stdout, _ = self.popen.communicate(timeout=END_S)
        self._log.seek(0)
        self.stderr = self._log.read()
        return self.popen.returncode

    def lines(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What it said of each session, and of all; with --json, after `ended`."""
        *each, summary = map(json.loads, self.stdout.splitlines())
        return each, summary


def statuses(each: Sequence[dict[str, Any]]) -> dict[str, str]:
    """How each session ended, by its id."""
    return {one["session_id"]: one["status"] for one in each}
