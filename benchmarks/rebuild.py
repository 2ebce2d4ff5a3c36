"""How fast a read model is rebuilt: `python -m benchmarks.rebuild --events 200000 --finals 100`.

Facts of made-up sessions are written straight into a Redis of its own; each projection is then rebuilt twice, first
from nothing, then in the place of what the first one made, by one process. One JSON line has the rates; with `--probe`
also how long other clients' calls took meanwhile. docs/rebuild.md says how to read it.
"""

import argparse
import asyncio
import contextlib
import cProfile
import json
import pstats
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import uvloop

from eventlog.codec import encode
from eventlog.events import Fact, SessionEnded, SessionOpened, UtteranceFinal
from eventlog.keys import READ_MODELS, RunKeys
from eventlog.positions import OPENED, SEALED, Position
from eventlog.projection.rebuild import scan_runs
from eventlog.redis.server import Server, connect
from projections.rebuilder import Rebuilder, relax_garbage_collection
from stenolog.local.embedded import EmbeddedServer
from stenolog.roles.projector import read_model
from stenolog.settings import Settings

RATE_HZ = 16_000
TTL_S = 3600
TEXT = "And mister John Dashwood had then leisure to consider how much there might be prudently in his power to do."
SEEDED_AT_ONCE = 1000
PROBE_PERIOD_S = 0.01  # a flush of an edge: as often as live traffic asks


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="facts in all")
    parser.add_argument("--finals", type=int, default=100, help="of each session")
    parser.add_argument("--projections", nargs="+", default=list(READ_MODELS), choices=READ_MODELS)
    parser.add_argument("--verify", action="store_true", help="compare, as `--verify` does")
    parser.add_argument("--probe", action="store_true", help="measure another client's calls meanwhile")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    arguments = parser.parse_args()
    relax_garbage_collection()
    with tempfile.TemporaryDirectory() as directory, EmbeddedServer(directory) as server:
        profiler = cProfile.Profile() if arguments.profile else None
        with profiler or contextlib.nullcontext():
            found = uvloop.run(measured(server.url, arguments))
        if profiler:
            pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    print(json.dumps(found))


async def measured(url: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Events a second of each projection, first and second time."""
    server = await connect(url)
    found: dict[str, object] = {"sessions": await seed(server, arguments.events, arguments.finals)}
    for name in arguments.projections:
        rates, costs_us = [], []
        async with probing(url, enabled=arguments.probe) as latencies_ms:
            for _ in range(2):
                rebuilder = Rebuilder(
                    read_model(name, Settings()), server, consumer="bench", session_ttl_s=TTL_S,
                    verify=arguments.verify, is_complete=True,
                )  # fmt: skip
                started, started_cpu = time.perf_counter(), time.process_time()
                report = await rebuilder.run(scan_runs(server), lambda _: None)
                rates.append(round(report.events / (time.perf_counter() - started)))
                costs_us.append(round(1e6 * (time.process_time() - started_cpu) / report.events, 1))
                if report.failed or report.differing:
                    raise SystemExit(f"{name} was not rebuilt: {report}")
        found[name] = {"events": report.events, "events_per_s": rates, "cpu_us_per_event": costs_us}
        if latencies_ms:
            found[f"{name}_probe_ms"] = spread(latencies_ms)
    await server.close()
    return found


async def seed(server: Server, events: int, finals: int) -> int:
    """Write the facts of as many sessions as make so many events."""
    sessions = max(1, events // (finals + 2))
    commands: list[tuple[str | bytes | int, ...]] = []
    for _ in range(sessions):
        run = server.keys.of(str(uuid.uuid4())).run()
        commands += [
            ("XADD", run.transcript, str(position), "fact", encode(fact)) for position, fact in facts(run, finals)
        ]
        commands += [("EXPIRE", run.transcript, TTL_S), ("ZADD", run.partition.index, 1, run.member)]
        if len(commands) >= SEEDED_AT_ONCE:
            await server.execute_many(commands)
            commands.clear()
    await server.execute_many(commands)
    return sessions


def facts(run: RunKeys, finals: int) -> Iterator[tuple[Position, Fact]]:
    """A session with so many utterances of six seconds."""
    opened_ms = int(time.time() * 1000)
    yield OPENED, SessionOpened(
        session_id=run.session_id, run=run.run, sample_rate_hz=RATE_HZ, channels=1, language="en", engine="mock",
        tenant_id="bench", opened_ms=opened_ms,
    )  # fmt: skip
    for number in range(finals):
        start = number * 6 * RATE_HZ
        yield Position(number + 1, 0), UtteranceFinal(
            utterance=number, channel=0, start_samples=start, end_samples=start + 5 * RATE_HZ,
            decided_samples=start + 5 * RATE_HZ + 8_000, sample_rate_hz=RATE_HZ, text=TEXT, confidence=0.93,
            speaker="1", committed_ms=opened_ms + number,
        )  # fmt: skip
    yield SEALED, SessionEnded(
        reason="stop", audio_samples=finals * 6 * RATE_HZ, utterances=finals, sample_rate_hz=RATE_HZ,
        ended_ms=opened_ms + finals,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def probing(url: str, *, enabled: bool) -> AsyncIterator[list[float]]:
    """Milliseconds that another client's calls take."""
    latencies_ms: list[float] = []
    if not enabled:
        yield latencies_ms
        return
    other = await connect(url)

    async def probe() -> None:
        while True:
            started = time.perf_counter()
            await other.execute("PING")
            latencies_ms.append(1000 * (time.perf_counter() - started))
            await asyncio.sleep(PROBE_PERIOD_S)

    task = asyncio.create_task(probe())
    try:
        yield latencies_ms
    finally:
        task.cancel()
        await other.close()


def spread(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and worst."""
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 2), "p99": round(ordered[int(0.99 * (len(ordered) - 1))], 2),
        "max": round(ordered[-1], 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
