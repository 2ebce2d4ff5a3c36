"""What listings, metrics and probes cost while sessions live: `python -m benchmarks.listing --sessions 1000`.

Each address is asked in turn at a steady rate, first without any ended session, then with many, and one JSON line has
the times; docs/benchmarks.md says how to read it.
"""

import argparse
import contextlib
import http.client
import json
import math
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis

from benchmarks.stack import Stack
from eventlog.keys import Keys
from eventlog.redis.server import DEFAULT_PARTITIONS

PATHS = {
    "listing": "/v1/sessions",
    "listing_closed": "/v1/sessions?state=closed",
    "session_metrics": "/v1/sessions/metrics",
    "health": "/v1/health",
    "ready": "/v1/ready",
    "metrics": "/metrics",
}
PERIOD_S = 0.1  # ten questions a second to each address: more than any dashboard or balancer asks
TENANT = "benchmark"
TTL_S = 3600
SEEDED_AT_ONCE = 1000
SEEDING_S = 30.0  # bound of writing the ended sessions, in which the load continues
CALL_S = 10.0


class Poller:
    """Asks one address again and again, in a thread of its own."""

    def __init__(self, url: str, path: str) -> None:
        """Will ask for `path` at `url`."""
        self._host = urlsplit(url).netloc
        self._path = path
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []
        self.refused = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and return when the last answer is there."""
        self._stopped.set()
        self._thread.join(CALL_S)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=CALL_S)
        with contextlib.closing(connection):
            while not self._stopped.wait(PERIOD_S):
                started = time.perf_counter()
                connection.request("GET", self._path)
                answer = connection.getresponse()
                answer.read()
                self.seconds.append(time.perf_counter() - started)
                self.refused += answer.status != http.client.OK


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000, help="live ones")
    parser.add_argument("--ended", type=int, default=20_000, help="ended ones in the second half")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each half")
    arguments = parser.parse_args()
    limits = {
        "STENOLOG_MAX_SESSIONS": str(arguments.sessions + 16),
        "STENOLOG_WORKER_CAPACITY": str(arguments.sessions + 16),
    }
    with Stack(engine="mock", environment=limits) as stack, live(stack.url, arguments.sessions, arguments.seconds):
        before = measured(stack.url, arguments.seconds)
        seeding = time.perf_counter()
        seed(stack.redis_url, arguments.ended)
        print(f"wrote {arguments.ended} ended sessions in {time.perf_counter() - seeding:.1f} s", file=sys.stderr)
        after = measured(stack.url, arguments.seconds)
    line = {"benchmark": "listing", "sessions": arguments.sessions, "ended": arguments.ended,
            "without_ended": before, "with_ended": after}  # fmt: skip
    print(json.dumps(line), flush=True)


@contextlib.contextmanager
def live(url: str, sessions: int, seconds: float) -> Iterator[None]:
    """So many speakers meanwhile; none for zero."""
    if not sessions:
        yield
        return
    command = [
        sys.executable, "-m", "benchmarks.loadgen", "--url", url, "--sessions", str(sessions),
        "--seconds", str(2 * seconds + SEEDING_S),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
        try:
            if '"opened"' not in (generator.stdout.readline() if generator.stdout else ""):
                raise SystemExit("the load generator failed")
            yield
        finally:
            generator.kill()


def measured(url: str, seconds: float) -> dict[str, Any]:
    """Percentiles of each address, in milliseconds."""
    pollers = {name: Poller(url, path) for name, path in PATHS.items()}
    for poller in pollers.values():
        poller.start()
    threading.Event().wait(seconds)
    for poller in pollers.values():
        poller.stop()
    return {
        name: {**percentiles(poller.seconds), "answers": len(poller.seconds), "refused": poller.refused}
        for name, poller in pollers.items()
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """50th and 99th, and the worst, in milliseconds."""
    ranked = sorted(seconds) or [math.nan]
    found = {f"p{rank}": ranked[math.ceil(len(ranked) * rank / 100) - 1] for rank in (50, 99)}
    return {name: round(1000 * value, 1) for name, value in {**found, "max": ranked[-1]}.items()}


def seed(url: str, ended: int) -> None:
    """Write `ended` sessions that have ended, as their projection does."""
    keys = Keys(DEFAULT_PARTITIONS)
    now_ms = time.time_ns() // 1_000_000
    with redis.Redis.from_url(url) as client:
        for first in range(0, ended, SEEDED_AT_ONCE):
            pipeline = client.pipeline(transaction=False)
            for number in range(first, min(first + SEEDED_AT_ONCE, ended)):
                run = keys.of(str(uuid.uuid4())).run()
                partition, ended_ms = run.partition, now_ms - number
                pipeline.hset(run.view, mapping={
                    "session_id": run.session_id, "run": run.run, "state": "CLOSED", "tenant_id": TENANT,
                    "language": "en", "engine": "mock", "encoding": "linear16", "sample_rate": 16_000, "channels": 1,
                    "opened_ms": ended_ms - 60_000, "last_ms": ended_ms, "ended_ms": ended_ms, "reason": "stop",
                    "finals": 12, "audio_seconds": 60.0,
                })
                pipeline.expire(run.view, TTL_S)
                pipeline.zadd(partition.ended_runs, {run.member: ended_ms})
                pipeline.zadd(partition.tenant_runs(TENANT), {run.member: ended_ms})
                pipeline.zadd(partition.index, {run.member: ended_ms})
            pipeline.execute()


if __name__ == "__main__":
    main()
