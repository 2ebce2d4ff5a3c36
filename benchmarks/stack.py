"""A whole Stenolog on ephemeral ports for a benchmark, and what its processes use."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import redis
from prometheus_client.parser import text_string_to_metric_families

START_S = 150.0  # longer than `stenolog up` itself waits, so that its own message is the one that is shown
STOP_S = 40.0  # edges drain for up to 15 s, then workers and projections
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


METRICS_PORTS = 8
"""Ports that a stack's processes may serve metrics on: an edge, a projector and some workers."""

SCRAPE_S = 5.0
_RECOGNITION = {
    "stenolog_worker_recognition_duration_seconds_sum": "seconds_",
    "stenolog_worker_recognition_duration_seconds_count": "calls_",
    "stenolog_worker_early_finals_total": "early_",
}


class Usage(NamedTuple):
    """What a role's processes have used so far, and hold now."""

    cpu_s: float
    rss_mb: float


class Stack:
    """`stenolog up` in a temporary directory; a context manager that leaves nothing running."""

    def __init__(
        self, *, engine: str, workers: int = 1, environment: Mapping[str, str] | None = None, metrics_port: int = 0
    ) -> None:
        """`environment` adds settings; with `metrics_port` its processes serve their metrics from that port on."""
        self._command = [
            sys.executable, "-m", "stenolog", "up", "--port", "0", "--engine", engine, "--workers", str(workers),
        ]
        without = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        self._metrics_port = metrics_port
        self._environment = {**without, "STENOLOG_METRICS_PORT": str(metrics_port), **(environment or {})}
        self._is_reported = threading.Event()
        self._lines: list[str] = []
        self._ready: dict[str, Any] = {}
        self.pids: dict[str, list[int]] = {}

    @property
    def url(self) -> str:
        """The edge's address."""
        return str(self._ready["url"])

    @property
    def redis_url(self) -> str:
        """Its Redis's address."""
        return str(self._ready["redis"])

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="stenolog-bench-")
        command = [*self._command, "--data", self._directory.name]
        # A session of its own: Ctrl-C comes to the benchmark, which ends this in order.
        self._process = subprocess.Popen(
            command, env=self._environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._wait_ready()
            with redis.Redis.from_url(self._ready["redis"]) as client:
                self.pids = {**self._ready["pids"], "redis": [client.info("server")["process_id"]]}
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def usage(self) -> dict[str, Usage]:
        """What each role uses."""
        return {role: usage_of(pids) for role, pids in self.pids.items()}

    def recognition(self) -> dict[str, float]:
        """What the workers' recognisers did so far: seconds and calls by kind, and early finals by outcome."""
        found: dict[str, float] = {}
        for port in range(self._metrics_port, self._metrics_port + METRICS_PORTS if self._metrics_port else 0):
            with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(
                f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_S
            ) as answer:
                for family in text_string_to_metric_families(answer.read().decode()):
                    for sample in family.samples:
                        if name := _RECOGNITION.get(sample.name):
                            name += sample.labels.get("kind") or sample.labels["outcome"]
                            found[name] = found.get(name, 0.0) + sample.value
        return found

    @property
    def complaints(self) -> list[str]:
        """The lines that are warnings or worse, or no log lines at all."""
        return [line for line in self._lines if '"level":"info"' not in line]

    def _wait_ready(self) -> None:
        self._is_reported.wait(START_S)
        if not self._ready:
            raise SystemExit("the stack did not start:\n" + "\n".join(self._lines[-20:]))

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            self._lines.append(line.rstrip())
            if '"event":"ready"' in line:
                self._ready = json.loads(line)
                self._is_reported.set()
        self._is_reported.set()

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            for pid in self.pids.get("redis", []):  # the roles end with their parent; the server would be adopted
                os.kill(pid, signal.SIGKILL)
        self._directory.cleanup()


def free_ports() -> int:
    """The first of `METRICS_PORTS` ports in a row that nothing listens on now."""
    for first in range(20_000, 30_000, METRICS_PORTS):
        with contextlib.ExitStack() as exits, contextlib.suppress(OSError):
            for port in range(first, first + METRICS_PORTS):
                exits.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise SystemExit("no free ports for metrics")


def usage_of(pids: list[int]) -> Usage:
    """What these processes together have used so far, and hold now."""
    cpu_s = rss_mb = 0.0
    for pid in pids:
        # Past the command's name, which may hold anything: utime and stime are fields 14 and 15, rss is 24.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        cpu_s += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        rss_mb += int(fields[21]) * _PAGE_BYTES / 2**20
    return Usage(cpu_s, rss_mb)
