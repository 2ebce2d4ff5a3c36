"""The roles as the Procfile has them: separate processes that share nothing but a Redis."""

import shlex
from pathlib import Path
from typing import Self

import redis

from eventlog.keys import heartbeats
from stenolog.local.embedded import free_port
from stenolog.settings import Settings
from tests.e2e.deployment import is_ready
from tests.e2e.processes import Process
from tests.support.tree import ROOT
from tests.support.waiting import eventually

READY_S = 60


class Procfile:
    """Every line of the Procfile as a process; a context manager that leaves no process."""

    def __init__(self, redis_url: str, directory: Path, **variables: str) -> None:
        """Use the Redis at `redis_url`; logs go into `directory`, and every process gets `variables`."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.processes: dict[str, Process] = {}
        self._directory = directory
        self._redis_url = redis_url
        self._variables = {
            "REDIS_URL": redis_url, "STENOLOG_PORT": str(port), "STENOLOG_ENGINE": "mock", **variables,
        }  # fmt: skip
        self._starts = 0

    def __enter__(self) -> Self:
        self.start_missing()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.stop()

    def start_missing(self) -> None:
        """Start each role that doesn't run, and wait until all are ready."""
        for line in (ROOT / "Procfile").read_text().splitlines():
            role, _, command = line.partition(":")
            words = shlex.split(command)
            assert words[:2] == ["stenolog", role]
            if role not in self.processes or self.processes[role].popen.poll() is not None:
                log = self._directory / f"{role}-{self._starts}.log"
                self.processes[role] = Process(role, log, words[2:], self._variables)
                self._starts += 1
        eventually(lambda: is_ready(self.url) and self._all_have_heartbeats(), READY_S)

    def _all_have_heartbeats(self) -> bool:
        pids = {str(process.pid) for process in self.processes.values()}
        with redis.Redis.from_url(self._redis_url, decode_responses=True) as client:
            beating = [name.rsplit("-", 2)[1] for name in client.hkeys(heartbeats())]
        return sum(pid in pids for pid in beating) >= 2 + len(Settings().projections)
