"""Listeners to event streams: `python -m benchmarks.sse --listeners 5000 --sessions 200 --seconds 20`.

Starts its own stack, whose edge gets `--listeners` listeners at `--arrivals` a second, each to a session of its own and
half of them to its status; then commits `--events` finals a second in each of `--sessions` sessions, and prints one
JSON line: memory per idle listener, connection time, and the time from before a commit to the listener. docs/sse.md
has results.
"""

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.sse_clients import percentiles_ms
from benchmarks.stack import Stack
from eventlog.events import SessionStarted, UtteranceFinal
from eventlog.log import Checkpoint, Claim, Code, Commit
from eventlog.positions import Position
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server, connect
from eventlog.work.claims import Claims

RATE_HZ = 16_000
LEASE_MS = 3_600_000  # no worker may take the benchmark's claims while it runs
TICK_S = 0.01
WARM_UP_LISTENERS = 200  # what the process needs once, for code, pools and arenas
SETTLE_S = 2.0
SPARE_FILES = 200
OPENED_AT_ONCE = 250


class FactWriter:
    """Sessions without audio: the benchmark holds their claims and commits their facts."""

    def __init__(self, server: Server, log: RedisLog, claims: Sequence[Claim]) -> None:
        """Speak in the runs of `claims`."""
        self._server = server
        self._log = log
        self._claims = claims
        self._written = [0] * len(claims)
        self.commit_s: list[float] = []
        """How long each round of commits took; each delivery has waited for that too."""

    async def speak(self, events_per_s: float, seconds: float) -> None:
        """Commit so many finals a second in each run, spread evenly."""
        loop = asyncio.get_running_loop()
        period_s = 1 / events_per_s / len(self._claims)
        started, done, total = loop.time(), 0, round(seconds / period_s)
        while done < total:
            due = min(total, int((loop.time() - started) / period_s) + 1)
            if due > done:
                await self._commit([number % len(self._claims) for number in range(done, due)])
                done = due
            await asyncio.sleep(TICK_S)

    async def _commit(self, numbers: Sequence[int]) -> None:
        started = time.perf_counter()
        for some in (numbers[i : i + len(self._claims)] for i in range(0, len(numbers), len(self._claims))):
            for answer in await self._log.commit([self._next(number) for number in some]):
                if answer.code is not Code.OK:
                    raise SystemExit(f"a commit was answered {answer.code.name}")
        self.commit_s.append(time.perf_counter() - started)

    def _next(self, number: int) -> Commit:
        said = self._written[number]
        self._written[number] += 1
        at = said * RATE_HZ // 10
        fact = UtteranceFinal(
            utterance=said, channel=0, start_samples=at, end_samples=at + RATE_HZ // 10,
            decided_samples=at + RATE_HZ // 10, sample_rate_hz=RATE_HZ, text=str(time.monotonic_ns()), confidence=1.0,
            speaker="1", committed_ms=time.time_ns() // 1_000_000,
        )  # fmt: skip
        checkpoint = Checkpoint(cursor=Position(0, 1), boundaries=(at,), utterance=said + 1, serial=said + 1)
        return Commit(self._claims[number], checkpoint, [(Position(said + 1, 0), fact)])


async def _claimed(server: Server, log: RedisLog, count: int) -> list[Claim]:
    """Opens sessions and holds them."""
    claims = Claims(server, "benchmark", lease_ms=LEASE_MS, session_ttl_s=3600)
    await claims.ensure_groups()
    held: list[Claim] = []
    for first in range(0, count, OPENED_AT_ONCE):
        ids = [str(uuid.uuid4()) for _ in range(min(OPENED_AT_ONCE, count - first))]
        await asyncio.gather(*(_open(server, log, session_id) for session_id in ids))
        taken = await claims.take_new(server.keys.partitions, count)
        loaded = await claims.load(taken)
        held += [claim for claim, one in zip(taken, loaded, strict=True) if one.code is Code.OK]
    return held


async def _open(server: Server, log: RedisLog, session_id: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    start = SessionStarted(session_id=session_id, sample_rate_hz=RATE_HZ, engine="mock", started_ms=now_ms)
    await log.open(server.keys.of(session_id), start, "benchmark")


class SseClients:
    """The process with the listeners."""

    def __init__(self, port: int, paths: Sequence[str], per_second: float) -> None:
        """Let a listener for each path arrive, so many a second."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sse_clients"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._send(json.dumps({"port": port, "paths": list(paths), "per_second": per_second}))

    def _send(self, line: str) -> None:
        assert self._process.stdin  # noqa: S101 - it is a pipe
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    async def ask(self, line: str = "") -> dict[str, Any]:
        """Send it `line`, and return its next line."""
        if line:
            self._send(line)
        assert self._process.stdout  # noqa: S101 - it is a pipe
        answer = await asyncio.to_thread(self._process.stdout.readline)
        if not answer:
            raise SystemExit("the listeners ended early")
        found: dict[str, Any] = json.loads(answer)
        return found

    def reset(self) -> None:
        """Drop the events so far."""
        self._send("reset")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


async def measure(stack: Stack, redis_url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All three figures."""
    server = await connect(redis_url)
    log = RedisLog(server, session_ttl_s=3600)
    claims = await _claimed(server, log, arguments.listeners)
    paths = [_path(claim, number) for number, claim in enumerate(claims)]
    port = urlsplit(stack.url).port or 0
    warm = SseClients(port, paths[:WARM_UP_LISTENERS], arguments.arrivals)
    await warm.ask()
    warm.stop()
    await asyncio.sleep(SETTLE_S)
    before = stack.usage()
    clients = SseClients(port, paths, arguments.arrivals)
    try:
        connected = await clients.ask()
        await asyncio.sleep(SETTLE_S)
        idle = stack.usage()
        gc.freeze()  # thousands of claims, which no collection need walk over while times are taken
        voices = FactWriter(server, log, claims[: 2 * arguments.sessions : 2])  # those whose transcript is listened to
        await voices.speak(arguments.events, SETTLE_S)
        clients.reset()
        voices.commit_s.clear()
        started = time.perf_counter()
        await voices.speak(arguments.events, arguments.seconds)
        took_s = time.perf_counter() - started
        after = stack.usage()
        await asyncio.sleep(SETTLE_S)
        delivered = await clients.ask("report")
    finally:
        clients.stop()
        await server.close()
    commits = round(arguments.events * arguments.sessions * arguments.seconds)
    grown_kib = (idle["edge"].rss_mb - before["edge"].rss_mb) * 1024
    return {
        "listeners": len(paths), "kib_per_idle_listener": round(grown_kib / len(paths), 2),
        "connecting": connected, "commits": commits, "commits_per_s": round(commits / took_s),
        "committing": percentiles_ms(voices.commit_s), "delivery": delivered,
        "cores": {role: round((after[role].cpu_s - idle[role].cpu_s) / (took_s + SETTLE_S), 2) for role in after},
    }  # fmt: skip


def _path(claim: Claim, number: int) -> str:
    session_id = claim.keys.session_id
    return f"/api/v1/sessions/{session_id}/status/stream" if number % 2 else f"/v1/sessions/{session_id}/events"


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listeners", type=int, default=5000)
    parser.add_argument("--arrivals", type=float, default=100.0, help="a second")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--events", type=float, default=10.0, help="a second and session")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    if not 0 < 2 * arguments.sessions <= arguments.listeners:
        parser.error("every second listener receives a transcript: at least twice as many listeners as sessions")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, arguments.listeners + SPARE_FILES), hard))
    # The worker holds one session, so that the benchmark can hold the others.
    environment = {"STENOLOG_WORKER_CAPACITY": "1", "STENOLOG_LEASE_MS": str(LEASE_MS)}
    with Stack(engine="mock", environment=environment) as stack:
        result = uvloop.run(measure(stack, stack.redis_url, arguments))
    print(json.dumps({"benchmark": "sse", **result}), flush=True)
    if stack.complaints:
        print(f"the stack complained {len(stack.complaints)} times, first:\n{stack.complaints[0]}", file=sys.stderr)


if __name__ == "__main__":
    main()
