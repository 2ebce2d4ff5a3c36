"""What the path costs beyond its bare hops: `python -m benchmarks.baseline --sessions 500 --seconds 15 --rounds 2`.

Runs the bare path (see `benchmarks.baseline_path`) and the real one in turn, the same load on both, and prints one JSON
line: cores per role of each, and their ratio, as medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import redis

from benchmarks.live import load
from benchmarks.stack import Stack, Usage, usage_of
from stenolog.local.embedded import EmbeddedServer, free_port

START_TIMEOUT_S, POLL_S = 20.0, 0.05  # for the baseline edge to listen, and between two checks


class BaselineStack:
    """The baseline's processes, in the form of a stack for `benchmarks.live`."""

    def __init__(self, url: str, pids: dict[str, list[int]]) -> None:
        """Its edge is at `url`."""
        self.url = url
        self.pids = pids

    def usage(self) -> dict[str, Usage]:
        """What each role uses."""
        return {role: usage_of(pids) for role, pids in self.pids.items()}

    def recognition(self) -> dict[str, float]:
        """Nothing: it recognises nothing."""
        return {}


@contextlib.contextmanager
def baseline_stack() -> Iterator[BaselineStack]:
    """Run the baseline; its Redis is set up as the real one's."""
    with tempfile.TemporaryDirectory(prefix="stenolog-bench-") as directory, EmbeddedServer(directory) as server:
        port = free_port()
        roles = [("edge", "--port", str(port)), ("worker",)]
        processes = [
            subprocess.Popen([sys.executable, "-m", "benchmarks.baseline_path", role, server.url, *options])
            for role, *options in roles
        ]
        try:
            _wait_for(port)
            with redis.Redis.from_url(server.url) as client:
                redis_pid = client.info("server")["process_id"]
            yield BaselineStack(
                f"http://127.0.0.1:{port}",
                {"edge": [processes[0].pid], "worker": [processes[1].pid], "redis": [redis_pid]},
            )
        finally:
            for process in processes:
                process.kill()
                process.wait()


def main() -> None:
    """Measure in turn and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    bare: list[dict[str, float]] = []
    real: list[dict[str, float]] = []
    for _ in range(arguments.rounds):
        bare.append(_cores(arguments, bare=True))
        real.append(_cores(arguments, bare=False))
    line = {"benchmark": "bare", "sessions": arguments.sessions, "seconds": arguments.seconds, **_compared(bare, real)}
    print(json.dumps(line), flush=True)


def _cores(arguments: argparse.Namespace, *, bare: bool) -> dict[str, float]:
    run = argparse.Namespace(**vars(arguments), engine="mock", url=None)
    if bare:
        with baseline_stack() as stack:
            cores = load(run, stack)["cores"]
    else:
        limits = {
            "STENOLOG_MAX_SESSIONS": str(arguments.sessions + 16),
            "STENOLOG_WORKER_CAPACITY": str(arguments.sessions + 16),
        }
        with Stack(engine="mock", environment=limits) as real:
            cores = load(run, real)["cores"]
    return dict(cores)


def _compared(bare: list[dict[str, float]], real: list[dict[str, float]]) -> dict[str, Any]:
    medians = [
        {role: round(statistics.median(one[role] for one in rounds), 3) for role in rounds[0]}
        for rounds in (bare, real)
    ]
    ratios = {role: round(medians[1][role] / medians[0][role], 2) for role in medians[0]}
    ratios["all"] = round(sum(medians[1].values()) / sum(medians[0].values()), 2)
    return {"bare_cores": medians[0], "real_cores": medians[1], "ratios": ratios}


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(POLL_S)
    raise SystemExit("the bare edge did not start")


if __name__ == "__main__":
    main()
