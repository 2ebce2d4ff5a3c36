"""The whole way: facts in the log, a forwarder as a process of its own, brokers, a reader."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from eventlog.keys import RunKeys
from eventlog.positions import SEALED
from eventlog.redis.server import Server, connect
from projections.kafka import Kafka
from projections.kafka.records import TOPICS
from tests.e2e.processes import Process
from tests.integration.kafka.brokers import Brokers, Found
from tests.integration.kafka.events import batch, events_of
from tests.integration.projections.facts import a_run, write
from tests.support.commands import environment
from tests.support.waiting import eventually_async

PARTITIONS = 8
WAIT_S = 60
"""Faust is imported for seconds on a busy machine."""

FINALS = 20


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[Server]:
    """An empty deployment of few partitions."""
    server = await connect(redis_url, partitions=PARTITIONS)
    yield server
    await server.close()


def forwarder(log: Server, brokers: Brokers, output: Path) -> Process:
    """One process."""
    return Process("projector", output, ["kafka"], {
        "REDIS_URL": log.url, "STENOLOG_PARTITIONS": str(PARTITIONS), "STENOLOG_KAFKA_URL": brokers.url,
        "STENOLOG_SINK_LEASE_MS": "1500",
    })  # fmt: skip


async def recordings(log: Server, count: int) -> list[RunKeys]:
    """So many recorded files, all that is known of them written at once."""
    runs = [a_run(log) for _ in range(count)]
    for keys in runs:
        await write(log, keys, batch(keys, FINALS))
    return runs


async def stand(log: Server, runs: Sequence[RunKeys]) -> bool:
    """Whether everything of these was forwarded."""
    found = [await log.execute("GET", keys.projected("kafka")) for keys in runs]
    return found == [str(SEALED).encode()] * len(runs)


def assert_complete(found: Sequence[Found], runs: Sequence[RunKeys]) -> None:
    """Every event of these is there with its id, the first time in order within its topic."""
    for keys in runs:
        events = events_of(Kafka("kafka://nobody"), keys, batch(keys, FINALS))
        for topic in ("stenolog.transcripts", "stenolog.batches"):
            came = [one.headers["event_id"] for one in found if (one.key, one.topic) == (keys.session_id, topic)]
            assert list(dict.fromkeys(came)) == [one.event_id for one in events if TOPICS[one.kind] == topic]


async def test_a_killed_forwarder_loses_nothing(log: Server, brokers: Brokers, tmp_path: Path) -> None:
    """BATCH-10: from log to reader every event comes at least once, in order and with its one id, though the forwarder was killed in between."""  # noqa: E501
    runs = await recordings(log, 20)
    first = forwarder(log, brokers, tmp_path / "first.log")
    try:
        await eventually_async(lambda: any_stands(log, runs), WAIT_S)
        runs += await recordings(log, 20)
        first.send(signal.SIGKILL)
        first.ended()
    finally:
        first.stop()
    second = forwarder(log, brokers, tmp_path / "second.log")
    try:
        await eventually_async(lambda: stand(log, runs), WAIT_S)
    finally:
        second.stop()
    events = len(runs) * (FINALS + 2)
    found = brokers.read(
        "stenolog.transcripts", "stenolog.batches",
        until=lambda found: len({one.headers["event_id"] for one in found}) >= events,
    )
    assert_complete(found, runs)


async def any_stands(log: Server, runs: Sequence[RunKeys]) -> bool:
    """Whether something was forwarded."""
    return any([await log.execute("GET", keys.projected("kafka")) for keys in runs])


async def test_a_forwarder_ends_in_order_though_its_broker_hangs(
    log: Server, brokers: Brokers, tmp_path: Path,
) -> None:
    """BATCH-10: at SIGTERM a process whose broker hangs ends by itself in time, and the next one sends the rest."""
    runs = await recordings(log, 1)
    first = forwarder(log, brokers, tmp_path / "first.log")
    try:
        await eventually_async(lambda: stand(log, runs), WAIT_S)
        brokers.hang()
        runs += await recordings(log, 1)
        first.send(signal.SIGTERM)
        assert first.ended() == 0
    finally:
        brokers.resume()
        first.stop()
    second = forwarder(log, brokers, tmp_path / "second.log")
    try:
        await eventually_async(lambda: stand(log, runs), WAIT_S)
    finally:
        second.stop()


def test_without_the_extra_the_role_ends_with_a_line(redis_url: str, tmp_path: Path) -> None:
    """Where Faust isn't installed, `stenolog projector kafka` ends with status 2 and names the extra to install."""
    code = (
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'faust' else find(name, *rest)\n"
        "from stenolog.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "projector", "kafka"], cwd=tmp_path, env=environment(REDIS_URL=redis_url),
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'stenolog[kafka]'" in done.stderr
    assert "Traceback" not in done.stderr
