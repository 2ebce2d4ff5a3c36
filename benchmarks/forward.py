"""Events of finished recordings forwarded to sinks: `python -m benchmarks.forward --batches 1000 --forwards 20000`.

First to a sink that takes everything at once, which leaves the log's side; then by the sink `eventbridge` to a bus that
fails on purpose. Prints one JSON line; docs/benchmarks.md says how to read it.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import uvloop

from benchmarks.fake_eventbridge import FakeEventBridge, FaultRates
from eventlog.codec import encode
from eventlog.events import Batch, Fact, SessionEnded, SessionOpened, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.positions import OPENED, SEALED, Position
from eventlog.redis.server import Server, connect
from projections.eventbridge import EventBridge, EventBridgeSettings
from projections.forwarding.sink import SENT, Result, Sink
from projections.integration_events import Event, Kind, batch_kinds, event_id
from projections.runner import Forwarding, ProjectionRunner
from stenolog.local.embedded import EmbeddedServer

RATE_HZ = 16_000
UTTERANCES = 3  # a recording of some seconds: most of the work is the event, not its text
TEXT = "And mister John Dashwood had then leisure to consider how much there might be prudently in his power to do."
TTL_S = 3600
WRITTEN_AT_ONCE = 500
LOOK_S = 0.02
SETTLE_S, MAX_POLLS = 0.5, 240  # two minutes: the longest pauses between tries, several times
MOST_S = 600.0  # bound of each half: ten times what it takes on a slow machine
MOST_BATCHES = 1_000_000
CONSUMER = "benchmark"

Expected = set[tuple[str, str]]
"""Interaction and event id of each event that is expected."""


class InstantSink:
    """A sink that takes at once what it is given."""

    name = EventBridge.name
    most_events = EventBridge.most_events
    most_calls = EventBridge.most_calls

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.arrived: Counter[tuple[str, str]] = Counter()
        self.first_s = 0.0

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """As `eventbridge`."""
        return batch_kinds(opened, fact)

    async def start(self) -> None:
        """It is ready."""

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """Count them."""
        self.first_s = self.first_s or time.perf_counter()
        self.arrived.update((one.session_id, one.event_id) for one in events)
        return [SENT] * len(events)

    async def stop(self) -> None:
        """Nothing to free."""


async def write(server: Server, count: int) -> Expected:
    """The facts of so many finished recordings, and the ids of the events that they are expected."""
    runs = [server.keys.of(str(uuid.uuid4())).run() for _ in range(count)]
    for first in range(0, count, WRITTEN_AT_ONCE):
        commands = [command for keys in runs[first : first + WRITTEN_AT_ONCE] for command in _commands(keys)]
        for answer in await server.execute_many(commands):
            if isinstance(answer, Exception):
                raise answer
    return {(keys.session_id, event_id(keys, SEALED, Kind.BATCH_COMPLETED)) for keys in runs}


def _commands(keys: RunKeys) -> list[tuple[str | bytes | int, ...]]:
    now_ms = time.time_ns() // 1_000_000
    opened = SessionOpened(
        session_id=keys.session_id, run=keys.run, sample_rate_hz=RATE_HZ, channels=1, language="en", engine="mock",
        tenant_id=str(uuid.uuid4()), opened_ms=now_ms, batch=Batch(user_id="benchmark"),
    )  # fmt: skip
    facts: list[tuple[Position, Fact]] = [(OPENED, opened)]
    for number in range(UTTERANCES):
        start, end = 2 * number * RATE_HZ, (2 * number + 1) * RATE_HZ
        facts.append((Position(number + 1, 0), UtteranceFinal(
            utterance=number, channel=0, start_samples=start, end_samples=end, decided_samples=end,
            sample_rate_hz=RATE_HZ, text=TEXT, confidence=0.9, speaker="1", committed_ms=now_ms,
        )))  # fmt: skip
    facts.append((SEALED, SessionEnded(
        reason="stop", audio_samples=2 * UTTERANCES * RATE_HZ, utterances=UTTERANCES, sample_rate_hz=RATE_HZ,
        ended_ms=now_ms,
    )))  # fmt: skip
    return [
        *(("XADD", keys.transcript, str(position), "fact", encode(fact)) for position, fact in facts),
        ("EXPIRE", keys.transcript, TTL_S),
        ("ZADD", keys.partition.index, now_ms, keys.member),
        ("XADD", keys.partition.changes, "*", "run", keys.member),
    ]


async def forwarded(server: Server, sink: Sink, expected: Expected, is_done: Callable[[], bool]) -> tuple[float, float]:
    """Run one process's forwarder until all is done, and then until it knows; seconds until done and of its CPU.

    Raises:
        SystemExit: if it never is.
    """
    runner = ProjectionRunner(server, [], CONSUMER, session_ttl_s=TTL_S, forwarding=Forwarding([sink]))
    started, started_cpu = time.perf_counter(), time.process_time()
    await runner.start()
    try:
        while not is_done():
            if time.perf_counter() - started > MOST_S:
                raise SystemExit(f"not everything was forwarded within {MOST_S:.0f} s")
            await asyncio.sleep(LOOK_S)
        took = time.perf_counter() - started, time.process_time() - started_cpu
        # An event that was taken without an answer comes again, also if it was the last.
        for _ in range(MAX_POLLS):
            if not (await left(server, expected, sink.name))["behind"]:
                break
            await asyncio.sleep(SETTLE_S)
        return took
    finally:
        await runner.stop()


async def left(server: Server, expected: Expected, name: str) -> dict[str, int]:
    """What the forwarder left behind: dead letters, letters to be sent again, runs whose position was not moved."""
    lengths = [await server.execute_many([("XLEN", key) for key in keys]) for keys in (
        [partition.dead_letters(name) for partition in server.keys.partitions],
        [partition.redriven(name) for partition in server.keys.partitions],
    )]
    positions = await server.execute_many([
        ("GET", server.keys.of(session_id).run().projected(name)) for session_id, _ in sorted(expected)
    ])
    behind = sum(position != str(SEALED).encode() for position in positions)
    return {"dead_letters": sum(map(_count, lengths[0])), "redriven": sum(map(_count, lengths[1])), "behind": behind}


def _count(answer: object) -> int:
    if not isinstance(answer, int):
        raise SystemExit(f"Redis answered {answer}")
    return answer


def compared(arrived: Counter[tuple[str, str]], expected: Expected) -> dict[str, int]:
    """Arrived events against expected ones; an event with another id is both lost and unknown."""
    return {
        "arrived": len(arrived), "lost": len(expected - arrived.keys()), "unknown": len(arrived.keys() - expected),
        "duplicates": sum(arrived.values()) - len(arrived),
    }  # fmt: skip


async def log_side(url: str, count: int) -> dict[str, Any]:
    """Forwards to a sink that takes at once."""
    server = await connect(url)
    sink = InstantSink()
    try:
        expected = await write(server, count)
        print(f"forwarding {count} events to a sink that takes at once", file=sys.stderr)
        started = time.perf_counter()
        elapsed_s, cpu_s = await forwarded(server, sink, expected, lambda: len(sink.arrived) >= count)
        return {
            "events": count, "seconds": round(elapsed_s, 2), "first_after_s": round(sink.first_s - started, 2),
            "per_s": round(count / elapsed_s), "cpu_us_per_event": round(1e6 * cpu_s / count),
            **compared(sink.arrived, expected), **await left(server, expected, sink.name),
        }  # fmt: skip
    finally:
        await server.close()


async def bus_side(url: str, count: int, seed: int) -> dict[str, Any]:
    """Forwards to a bus that fails on purpose."""
    server = await connect(url)
    try:
        expected = await write(server, count)
        with FakeEventBridge(FaultRates(), seed) as bus:
            sink = EventBridge(EventBridgeSettings(endpoint_url=bus.url))
            print(f"forwarding {count} events to a bus that fails", file=sys.stderr)
            elapsed_s, _ = await forwarded(server, sink, expected, lambda: len(bus.arrived) >= count)
            return {
                "events": count, "seconds": round(elapsed_s, 2), "per_s": round(count / elapsed_s),
                **compared(bus.arrived, expected), **bus.counts, **await left(server, expected, sink.name),
            }  # fmt: skip
    finally:
        await server.close()


def on_a_server(side: Callable[[str], Coroutine[None, None, dict[str, Any]]]) -> dict[str, Any]:
    """What `side` measures on a server of its own."""
    with tempfile.TemporaryDirectory(prefix="stenolog-bench-") as directory, EmbeddedServer(directory) as embedded:
        return uvloop.run(side(embedded.url))


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forwards", type=int, default=20_000, help="events for the log's side")
    parser.add_argument("--batches", type=int, default=1000, help="events for the bus that fails")
    parser.add_argument("--seed", type=int, default=1, help="of what the bus fails at")
    arguments = parser.parse_args()
    for count in (arguments.forwards, arguments.batches):
        if not 0 < count <= MOST_BATCHES:
            parser.error(f"at least 1 and at most {MOST_BATCHES} events")
    # The bus takes any; without some, nothing would be forwarded, and a developer's own are none of its business.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "benchmark")
    logging.disable(logging.WARNING)  # thousands of failures on purpose
    result: dict[str, Any] = {"benchmark": "forward"}
    result["log"] = on_a_server(lambda url: log_side(url, arguments.forwards))
    result["bus"] = on_a_server(lambda url: bus_side(url, arguments.batches, arguments.seed))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
