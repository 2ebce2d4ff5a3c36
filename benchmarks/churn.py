"""Sessions opened and closed for minutes on end: `python -m benchmarks.churn --sessions 1000 --minutes 10`.

Starts its own stack and prints one JSON line: counts, each role's memory with its slope, and the number of keys
in Redis, which must be back to the start once the sessions have expired. docs/benchmarks.md says how to read it.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx2
import numpy as np
import redis
import uvloop

from benchmarks.churn_clients import ChurnClients, expected_transcript
from benchmarks.stack import Stack

SAMPLE_S = 2.0
"""Between two samples of memory and keys; 300 of them in ten minutes."""

TTL_S = 60
"""The shortest that a session's keys may have: the first sessions have expired long before the end."""

IDLE_S = 50
"""Below the TTL, as it has to be, and above the time that a session is silent here."""

STATUS_S = 300
"""How long a session's last status messages are kept: longer than all else that it has."""

AFTER_S = STATUS_S + 90.0
"""For the last keys to go, and two of the workers' sweeps."""

MOST_SESSIONS, MOST_MINUTES, MOST_PER_S = 5_000, 600, 500
"""Bounds against a typing error."""


class Sample(NamedTuple):
    """The state at one moment."""

    at_s: float
    done: int
    rss_mib: dict[str, float]
    keys: int
    redis_used_mib: float


class Churn:
    """One run."""

    def __init__(self, stack: Stack, sessions: int, per_s: float) -> None:
        """Let `sessions` slots open `per_s` sessions a second, one after the other each."""
        self._stack = stack
        self._redis = redis.Redis.from_url(stack.redis_url, decode_responses=True)
        self._sessions = sessions
        self._per_s = per_s
        self.samples: list[Sample] = []

    async def run(self, seconds: float) -> dict[str, Any]:
        """Churn for so long, then wait until the keys have expired; returns the result."""
        kinds = self._kinds()
        self._started = time.perf_counter()
        limits = httpx2.Limits(max_connections=32)
        async with httpx2.AsyncClient(base_url=self._stack.url, timeout=30.0, limits=limits) as http:
            clients = ChurnClients(self._stack.url, http, expected_transcript())
            recording = asyncio.create_task(self._record(clients))
            await clients.run(self._sessions, self._sessions / self._per_s, seconds)
            churned_s = time.perf_counter() - self._started
            busy = list(self.samples)
            gone_s = await self._expired(sum(kinds.values()))
            recording.cancel()
        return {
            "seconds": round(churned_s, 1),
            "done": clients.done,
            "per_s": round(clients.done / churned_s, 1),
            "most_open": clients.most_open,
            "errors": dict(clients.errors),
            **self._memory(busy, seconds),
            "keys": {
                "start": sum(kinds.values()), "peak": max(sample.keys for sample in self.samples),
                "end": self.samples[-1].keys, "gone_after_s": gone_s,
            },
            "left": dict(self._kinds() - kinds),
        }  # fmt: skip

    async def _record(self, clients: ChurnClients) -> None:
        while True:
            usage = self._stack.usage()
            info: dict[str, Any] = self._redis.info("memory")
            self.samples.append(Sample(
                time.perf_counter() - self._started, clients.done, {role: one.rss_mb for role, one in usage.items()},
                self._redis.dbsize(), info["used_memory"] / 2**20,
            ))  # fmt: skip
            await asyncio.sleep(SAMPLE_S)

    async def _expired(self, before: int) -> float | None:
        """Wait until no more keys exist than before; returns the seconds, None if it never happens."""
        started = time.perf_counter()
        while (waited_s := time.perf_counter() - started) < AFTER_S:
            await asyncio.sleep(SAMPLE_S)
            if self.samples[-1].keys - self._tombstones() <= before:
                return round(waited_s, 1)
        return None

    def _tombstones(self) -> int:
        # One key per partition, bounded, kept an hour: deletion leaves it on purpose.
        return sum(1 for _ in self._redis.scan_iter("*:erased", count=1000))

    def _memory(self, samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
        """Each role's memory at the start, its most, and its slope once sessions expire as fast as they come."""
        warm = [sample for sample in samples if sample.at_s >= min(STATUS_S + 15, seconds / 2)]
        table: dict[str, Any] = {}
        for role in samples[0].rss_mib:
            values = [sample.rss_mib[role] for sample in samples]
            table[role] = _line([sample.at_s for sample in warm], [sample.rss_mib[role] for sample in warm], values)
        used = [sample.redis_used_mib for sample in samples]
        table["redis_used"] = _line([sample.at_s for sample in warm], [sample.redis_used_mib for sample in warm], used)
        rate = (warm[-1].done - warm[0].done) / (warm[-1].at_s - warm[0].at_s)
        for line in table.values():
            line["mib_per_1000_sessions"] = round(line["mib_per_min"] / 60 / rate * 1000, 3)
        return {"memory": table}

    def _kinds(self) -> Counter[str]:
        """The number of keys of each kind, which is the part behind the hash tag."""
        names = (str(key).split(":") for key in self._redis.scan_iter(count=1000))
        return Counter(name[1] if len(name) > 1 else name[0] for name in names)


def _line(at_s: Sequence[float], values: Sequence[float], samples: Sequence[float]) -> dict[str, Any]:
    """A series in MiB, summarised, and its slope by least squares over its later part."""
    slope = float(np.polyfit(at_s, values, 1)[0]) * 60
    return {
        "first": round(samples[0], 1), "most": round(max(samples), 1), "last": round(samples[-1], 1),
        "each_minute": [round(value, 1) for value in samples[:: round(60 / SAMPLE_S)]], "mib_per_min": round(slope, 3),
    }  # fmt: skip


def main() -> None:
    """Run the benchmark that the arguments describe."""
    arguments = _arguments()
    room = str(arguments.sessions + 64)
    environment = {
        "STENOLOG_SESSION_TTL_S": str(TTL_S), "STENOLOG_MAX_SESSIONS": room, "STENOLOG_WORKER_CAPACITY": room,
        "STENOLOG_IDLE_TIMEOUT_S": str(IDLE_S),
        # The clients are in a hurry on purpose.
        "STENOLOG_REQUESTS_PER_MINUTE": "0",
    }  # fmt: skip
    with Stack(engine="mock", environment=environment) as stack:
        result = uvloop.run(Churn(stack, arguments.sessions, arguments.per_s).run(arguments.minutes * 60))
        complaints = stack.complaints
    print(json.dumps({"benchmark": "churn", "sessions": arguments.sessions, **result}), flush=True)
    if complaints:
        print(f"the stack complained {len(complaints)} times, first:\n{complaints[0]}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000, help="open at once")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--per-s", type=float, default=50.0, help="opened, and closed, a second")
    arguments = parser.parse_args()
    for value, most in (
        (arguments.sessions, MOST_SESSIONS), (arguments.minutes, MOST_MINUTES), (arguments.per_s, MOST_PER_S),
    ):  # fmt: skip
        if not 0 < value <= most:
            parser.error(f"{value} is out of bounds: above 0, at most {most}")
    if arguments.sessions / arguments.per_s >= IDLE_S:
        parser.error(f"each session would be silent for {IDLE_S} s or more: raise --per-s")
    return arguments


if __name__ == "__main__":
    main()
