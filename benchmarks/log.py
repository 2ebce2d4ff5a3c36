"""Our append and commit against raw pipelined redis-py writing the same bytes: `python -m benchmarks.log`.

Prints one JSON line; docs/benchmarks.md says how to read it.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import redis.asyncio as redis
import uvloop

from eventlog.codec import encode
from eventlog.events import SessionStarted, UtteranceFinal
from eventlog.keys import SessionKeys
from eventlog.log import Append, Checkpoint, Claim, Code, Commit
from eventlog.positions import Position
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server, connect
from eventlog.work.claims import Claims
from stenolog.local.embedded import EmbeddedServer

SAMPLES = 1600  # a frame of 100 ms at 16 kHz
PAYLOAD = bytes(range(256)) * (SAMPLES * 2 // 256) + bytes(SAMPLES * 2 % 256)
TEXT = "And mister John Dashwood had then leisure to consider how much there might be prudently in his power to do."
TTL_S = 600
FLUSH = 100  # appends in a flush: what a thousand sessions give in 10 ms
COMMITS = 20  # commits together: what a tick of a busy worker gives


class Cost(NamedTuple):
    """What one write cost, in microseconds."""

    elapsed_us: float
    client_cpu_us: float
    redis_cpu_us: float


class Bench:
    """Sessions that are written to in two ways, in turn."""

    def __init__(self, server: Server, sessions: int) -> None:
        """Write to `sessions` sessions on `server`."""
        self._server = server
        self._raw: redis.Redis = redis.Redis.from_url(server.url)
        self._log = RedisLog(server, session_ttl_s=TTL_S)
        self._sessions: list[SessionKeys] = [server.keys.of(str(uuid.uuid4())) for _ in range(sessions)]
        self._position = Position(0, 1)
        self._claims: list[Claim] = []
        self._serial = 0

    async def open(self) -> None:
        """Open and claim every session."""
        for keys in self._sessions:
            start = SessionStarted(session_id=keys.session_id, sample_rate_hz=16_000)
            await self._log.open(keys, start, "")
        claims = Claims(self._server, "bench", lease_ms=3_600_000, session_ttl_s=TTL_S)
        await claims.ensure_groups()
        self._claims = await claims.take_new(self._server.keys.partitions, 100 * len(self._sessions))
        await claims.load(self._claims)

    async def close(self) -> None:
        """Close the raw connection."""
        await self._raw.aclose()

    async def append(self) -> int:
        """One chunk to each session by `RedisLog.append`, in flushes; returns how many."""
        position = Position(self._position.offset + SAMPLES, 0)
        for first in range(0, len(self._sessions), FLUSH):
            answers = await self._log.append([
                Append(keys, 1, self._position, position, PAYLOAD, is_audio=True)
                for keys in self._sessions[first : first + FLUSH]
            ])
            _require_ok([answer.code for answer in answers])
        self._position = position
        return len(self._sessions)

    async def append_raw(self) -> int:
        """The same chunks by plain XADD, in pipelines of the same size."""
        at_ms = int(time.time() * 1000)
        for first in range(0, len(self._sessions), FLUSH):
            pipeline = self._raw.pipeline(transaction=False)
            for keys in self._sessions[first : first + FLUSH]:
                entry: dict[Any, Any] = {"pcm": PAYLOAD, "at_ms": at_ms}
                pipeline.xadd(f"{keys.audio}:raw", entry, id=f"{self._position.offset}-7")
            await pipeline.execute()
        return len(self._sessions)

    async def commit(self) -> int:
        """One final to each run by `RedisLog.commit`; returns how many."""
        self._serial += 1
        for first in range(0, len(self._claims), COMMITS):
            answers = await self._log.commit([
                self._commit(claim) for claim in self._claims[first : first + COMMITS]
            ])
            _require_ok([answer.code for answer in answers])
        return len(self._claims)

    async def commit_raw(self) -> int:
        """The same final, notice and checkpoint by plain commands, unfenced, in pipelines of the same size."""
        for first in range(0, len(self._claims), COMMITS):
            pipeline = self._raw.pipeline(transaction=False)
            for claim in self._claims[first : first + COMMITS]:
                commit = self._commit(claim)
                [(position, fact)] = commit.facts
                checkpoint = commit.checkpoint
                fields: dict[Any, Any] = {
                    "cursor": str(checkpoint.cursor), "utterance": checkpoint.utterance, "serial": checkpoint.serial,
                    "boundaries": msgspec.json.encode(checkpoint.boundaries),
                }
                pipeline.xadd(f"{claim.keys.transcript}:raw", {"fact": encode(fact)}, id=str(position))
                pipeline.xadd(f"{claim.keys.partition.changes}:raw", {"run": claim.keys.member})
                pipeline.hset(f"{claim.keys.checkpoint}:raw", mapping=fields)
            await pipeline.execute()
        return len(self._claims)

    def _commit(self, claim: Claim) -> Commit:
        number = self._serial - 1
        final = UtteranceFinal(
            utterance=number, channel=0, start_samples=number * SAMPLES, end_samples=self._serial * SAMPLES,
            decided_samples=self._serial * SAMPLES, sample_rate_hz=16_000, text=TEXT, confidence=0.9, speaker="1",
        )
        checkpoint = Checkpoint(
            cursor=Position(self._serial * SAMPLES, 0), boundaries=(self._serial * SAMPLES,), utterance=self._serial,
            serial=self._serial,
        )
        return Commit(claim, checkpoint, [(Position(self._serial, 0), final)])


def _require_ok(codes: list[Code]) -> None:
    if wrong := [code for code in codes if code is not Code.OK]:
        raise SystemExit(f"the log refused {len(wrong)} of {len(codes)} writes: {wrong[0].name}")


async def _timed(server: Server, write: Callable[[], Awaitable[int]]) -> Cost:
    redis_before = await _redis_cpu_s(server)
    cpu_before, before = time.process_time(), time.perf_counter()
    count = await write()
    elapsed_s, cpu_s = time.perf_counter() - before, time.process_time() - cpu_before
    redis_s = await _redis_cpu_s(server) - redis_before
    return Cost(*(1e6 * seconds / count for seconds in (elapsed_s, cpu_s, redis_s)))


async def _redis_cpu_s(server: Server) -> float:
    with_clock: dict[str, float] = await server.client.info("cpu")
    return with_clock["used_cpu_user"] + with_clock["used_cpu_sys"]


async def _run(url: str, sessions: int, rounds: int) -> dict[str, Any]:
    server = await connect(url)
    bench = Bench(server, sessions)
    ways: dict[str, Callable[[], Awaitable[int]]] = {
        "append": bench.append, "append_raw": bench.append_raw, "commit": bench.commit, "commit_raw": bench.commit_raw,
    }
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    try:
        await bench.open()
        for number in range(rounds + 1):
            for name, write in ways.items():
                cost = await _timed(server, write)
                if number > 0:  # the first round fills caches and loads scripts
                    costs[name].append(cost)
    finally:
        await bench.close()
        await server.close()
    return _summary({name: Cost(*map(statistics.median, zip(*found, strict=True))) for name, found in costs.items()})


def _summary(costs: dict[str, Cost]) -> dict[str, Any]:
    summary: dict[str, Any] = {
        f"{name}_us": {field: round(value, 2) for field, value in cost._asdict().items()}
        for name, cost in costs.items()
    }
    for ours in ("append", "commit"):
        raw = costs[f"{ours}_raw"]
        summary[f"{ours}_ratio"] = {
            field.removesuffix("_us"): round(value / getattr(raw, field), 2)
            for field, value in costs[ours]._asdict().items()
        }
    return summary


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--url", default=os.environ.get("REDIS_URL"), help="an empty Redis; its own without")
    arguments = parser.parse_args()
    if not (0 < arguments.sessions <= 10_000 and 0 < arguments.rounds <= 1000):  # noqa: PLR2004 - against typing errors
        parser.error("at most 10000 sessions and 1000 rounds")
    if arguments.url:
        result = uvloop.run(_run(arguments.url, arguments.sessions, arguments.rounds))
    else:
        with tempfile.TemporaryDirectory(prefix="stenolog-bench-") as directory, EmbeddedServer(directory) as embedded:
            result = uvloop.run(_run(embedded.url, arguments.sessions, arguments.rounds))
    line = {"benchmark": "log", "sessions": arguments.sessions, "rounds": arguments.rounds, **result}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
