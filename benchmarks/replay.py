"""Hours of retained audio processed again: `python -m benchmarks.replay --hours 4 --engine mock --workers 1`.

Writes sessions of bundled speech straight into a Redis of its own, has `stenolog replay` process all of them, and
prints one JSON line; docs/benchmarks.md says how to read it.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import uvloop

from benchmarks.speech import FRAME_SAMPLES, RATE_HZ, frames, loop
from eventlog.codec import encode
from eventlog.events import SessionSealed, SessionStarted
from eventlog.log import Append, Code
from eventlog.positions import OPENED, SEALED, Position
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server, connect
from processor.speech import SegmenterSettings
from stenolog.local.embedded import EmbeddedServer

TTL_S = 86_400
FRAMES_AT_ONCE = 500  # appended in one call: 1.6 MB
MOST_HOURS = 24.0  # 2.8 GB of memory
MOST_MINUTES = 240.0
MOST_S = 3600.0


async def write(server: Server, sessions: int, seconds: float) -> float:
    """So many ended sessions of so much speech each; the audio of all, seconds."""
    log = RedisLog(server, session_ttl_s=TTL_S)
    cut = frames(loop())
    count = round(seconds * RATE_HZ / FRAME_SAMPLES)
    for number in range(sessions):
        keys = server.keys.of(str(uuid.uuid4()))
        start = SessionStarted(
            session_id=keys.session_id, sample_rate_hz=RATE_HZ, engine="mock", started_ms=time.time_ns() // 1_000_000,
            segmenter=msgspec.to_builtins(SegmenterSettings()),
        )  # fmt: skip
        await log.open(keys, start, "")
        head = OPENED
        for first in range(0, count, FRAMES_AT_ONCE):
            appends = []
            for at in range(first, min(count, first + FRAMES_AT_ONCE)):
                after, head = head, Position((at + 1) * FRAME_SAMPLES, 0)
                appends.append(Append(keys, 1, after, head, cut[(number * 7 + at) % len(cut)], is_audio=True))
            _check(await log.append(appends))
        end = encode(SessionSealed(reason="stop", offset_samples=head.offset))
        _check(await log.append([Append(keys, 1, head, SEALED, end, is_audio=False)]))
    return sessions * count * FRAME_SAMPLES / RATE_HZ


def _check(appended: Sequence[Any]) -> None:
    codes = {one.code for one in appended}
    if codes != {Code.OK}:
        raise SystemExit(f"the log did not take the audio: {codes}")


async def _written(url: str, sessions: int, seconds: float) -> float:
    server = await connect(url)
    try:
        return await write(server, sessions, seconds)
    finally:
        await server.close()


def replayed(url: str, engine: str, workers: int) -> dict[str, Any]:
    """What `stenolog replay` says of all of it, and what it and its workers used.

    Raises:
        SystemExit: if not every session was replayed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STENOLOG_")}
    command = [sys.executable, "-m", "stenolog", "replay", "--all", "--json", "--engine", engine, "--workers"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, str(workers)], env={**environment, "REDIS_URL": url}, stdout=subprocess.PIPE, timeout=MOST_S,
        check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"the replay ended with status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**result, "cpu_s": round(cpu_s, 2)}


def redis_cpu_s(url: str) -> float:
    """What the server has used so far."""

    async def read() -> float:
        server = await connect(url)
        try:
            info = await server.client.info("cpu")
        finally:
            await server.close()
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    return asyncio.run(read())


def main() -> None:
    """Run the benchmark that the arguments describe."""
    arguments = _arguments()
    sessions = max(1, round(arguments.hours * 60 / arguments.minutes))
    with tempfile.TemporaryDirectory(prefix="stenolog-bench-") as directory, EmbeddedServer(directory) as redis:
        audio_s = uvloop.run(_written(redis.url, sessions, arguments.minutes * 60))
        print(f"{sessions} sessions with {audio_s / 3600:.1f} h of audio written", file=sys.stderr)
        before_s = redis_cpu_s(redis.url)
        result = replayed(redis.url, arguments.engine, arguments.workers)
        used_s = redis_cpu_s(redis.url) - before_s
    rate = result["times_real_time"]
    print(json.dumps({
        "benchmark": "replay", "engine": arguments.engine, "workers": arguments.workers, "sessions": result["done"],
        "audio_s": result["audio_seconds"], "elapsed_s": result["elapsed_seconds"], "times_real_time": rate,
        "per_worker": round(rate / arguments.workers, 1), "cpu_s": result["cpu_s"],
        "times_real_time_per_cpu": round(result["audio_seconds"] / result["cpu_s"], 1), "redis_cpu_s": round(used_s, 2),
    }), flush=True)  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=4.0, help="of audio in all")
    parser.add_argument("--minutes", type=float, default=10.0, help="of audio in each session")
    parser.add_argument("--engine", choices=("mock", "whisper"), default="mock")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    for value, most in ((arguments.hours, MOST_HOURS), (arguments.minutes, MOST_MINUTES), (arguments.workers, 64)):
        if not 0 < value <= most:
            parser.error(f"{value} is out of bounds: above 0, at most {most}")
    return arguments


if __name__ == "__main__":
    main()
