"""Forwarders as processes of their own, killed, stopped and ended while they work."""

import random
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventlog.keys import RunKeys
from eventlog.positions import SEALED, Position
from eventlog.projection.webhook_subscriptions import KINDS, Subscriptions
from eventlog.redis.server import Server
from eventlog.work import heartbeats
from projections.integration_events import Kind, event_id
from tests.e2e.processes import Process
from tests.integration.eventbridge.scripted import Entries, refusal, results, serving
from tests.integration.forwarding.forwarders import (
    PARTITIONS,
    WAIT_S,
    conversations,
    dead_letters_of,
    holders,
    is_at_position,
    recording,
)
from tests.integration.projections.facts import a_run, ended, final, write
from tests.integration.webhooks.receivers import Receiver, receiving, subscribe
from tests.support.waiting import eventually_async

FINALS = 3
SHORT_LEASE_MS = 1500
LONG_LEASE_MS = 60_000
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class Forwarders:
    """Processes of one sink over a test's Redis."""

    def __init__(self, log: Server, directory: Path, sink: str) -> None:
        """None yet."""
        self._log = log
        self._directory = directory
        self._sink = sink
        self.all: list[Process] = []

    async def start(self, lease_ms: int = SHORT_LEASE_MS, **variables: str) -> Process:
        """One more, at work."""
        process = Process("projector", self._directory / f"{len(self.all)}.log", [self._sink], {
            "REDIS_URL": self._log.url, "STENOLOG_PARTITIONS": str(PARTITIONS),
            "STENOLOG_SINK_LEASE_MS": str(lease_ms), "STENOLOG_WEBHOOK_ALLOW_PRIVATE": "true", **variables,
        })  # fmt: skip
        self.all.append(process)
        await eventually_async(lambda: self._beats(process), WAIT_S)
        return process

    async def _beats(self, process: Process) -> bool:
        assert process.popen.poll() is None, process.log.read_text()
        role = f"projection.{self._sink}"
        return any(
            beat.role == role and f"-{process.pid}-" in beat.consumer for beat in await heartbeats.read_all(self._log)
        )

    async def shares(self) -> dict[int, int]:
        """How many partitions each living process has."""
        found = [int(name.rsplit("-", 2)[1]) for name in await holders(self._log, self._sink) if name]
        return {pid: found.count(pid) for pid in set(found)}


@contextmanager
def forwarders(log: Server, directory: Path, sink: str = "webhooks") -> Iterator[Forwarders]:
    """Leaves no process."""
    found = Forwarders(log, directory, sink)
    try:
        yield found
    finally:
        for process in found.all:
            process.stop()


@pytest.fixture
async def receiver(single: Server) -> AsyncIterator[Receiver]:
    """One that is subscribed to everything of the tenant."""
    async with receiving() as running:
        await subscribe(Subscriptions(single), running, KINDS, "tenant")
        yield running


def ids_of(keys: RunKeys, finals: int = FINALS) -> list[str]:
    """Ids of the events of an ended conversation, worked out from the facts' places alone."""
    said = [event_id(keys, Position(number + 1, 0), Kind.UTTERANCE) for number in range(finals)]
    return [*said, event_id(keys, SEALED, Kind.SESSION_ENDED)]


def in_order(receiver: Receiver, runs: Sequence[RunKeys]) -> bool:
    """True once each event of these runs was taken, the first time in order; it may come again."""
    of_run = {name: keys.member for keys in runs for name in ids_of(keys)}
    taken: dict[str, list[str]] = {keys.member: [] for keys in runs}
    for name in dict.fromkeys(receiver.taken):
        if name in of_run:
            taken[of_run[name]].append(name)
    assert taken == {keys.member: ids_of(keys) for keys in runs}
    return True


async def taken(receiver: Receiver, count: int) -> None:
    """Returns once it has taken so many events."""
    await eventually_async(lambda: len(receiver.taken) >= count, WAIT_S)


async def test_killed_at_any_moment_a_forwarder_loses_nothing(
    single: Server, receiver: Receiver, tmp_path: Path
) -> None:
    """However often forwarders are killed, each event arrives, with its one id, in order per session (BATCH-6)."""
    chance = random.Random(7)
    runs: list[RunKeys] = []
    with forwarders(single, tmp_path) as processes:
        for _ in range(3):
            process = await processes.start()
            runs += await conversations(single, 15)
            await taken(receiver, len(receiver.taken) + chance.randrange(1, 50))
            process.send(signal.SIGKILL)
            process.ended()
        await processes.start()
        await eventually_async(lambda: in_order(receiver, runs), WAIT_S)
        await eventually_async(lambda: is_at_position(single, runs[-1]), WAIT_S)
    assert set(receiver.taken) == {name for keys in runs for name in ids_of(keys)}
    assert await dead_letters_of(single) == []


async def test_a_stopped_forwarder_loses_its_partitions_and_does_no_harm(
    single: Server, receiver: Receiver, tmp_path: Path
) -> None:
    """A suspended process loses its partitions to others; resumed, it continues with those it then has (BATCH-6)."""
    with forwarders(single, tmp_path) as processes:
        sleeper, other = await processes.start(), await processes.start()
        half = {sleeper.pid: PARTITIONS // 2, other.pid: PARTITIONS // 2}
        await eventually_async(lambda: _are(processes, half), WAIT_S)
        runs = await conversations(single, 10)
        sleeper.send(signal.SIGSTOP)
        try:
            await eventually_async(lambda: _are(processes, {other.pid: PARTITIONS}), WAIT_S)
            runs += await conversations(single, 10)
            await eventually_async(lambda: in_order(receiver, runs), WAIT_S)
        finally:
            sleeper.send(signal.SIGCONT)
        await eventually_async(lambda: _are(processes, half), WAIT_S)
        runs += await conversations(single, 10)
        await eventually_async(lambda: in_order(receiver, runs), WAIT_S)


async def _are(processes: Forwarders, shares: dict[int, int]) -> bool:
    return await processes.shares() == shares


async def test_a_forwarder_that_ends_hands_over_at_once(single: Server, receiver: Receiver, tmp_path: Path) -> None:
    """At SIGTERM a process frees its partitions, and the others have them long before a lease is over (BATCH-6)."""
    with forwarders(single, tmp_path) as processes:
        one = await processes.start(LONG_LEASE_MS)
        await eventually_async(lambda: _are(processes, {one.pid: PARTITIONS}), WAIT_S)
        other = await processes.start(LONG_LEASE_MS)
        await eventually_async(lambda: _are(processes, {one.pid: 4, other.pid: 4}), WAIT_S)
        one.send(signal.SIGTERM)
        assert one.ended() == 0
        await eventually_async(lambda: _are(processes, {other.pid: PARTITIONS}), WAIT_S)
        runs = await conversations(single, 5)
        await eventually_async(lambda: in_order(receiver, runs), WAIT_S)


class Flaky:
    """Fails entries by chance, each again with another one, and keeps the ids of those that it takes."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._chance = random.Random(11)

    def __call__(self, entries: Entries) -> tuple[int, dict[str, Any]]:
        """Fails three entries in ten, and refuses one request in ten as a whole."""
        if self._chance.random() < 0.1:
            return refusal("ThrottlingException", "slow down")
        made = []
        for entry in entries:
            if self._chance.random() < 0.3:
                made.append({"ErrorCode": "InternalFailure", "ErrorMessage": "try again"})
            else:
                self.taken.append(entry["Resources"][0].removeprefix("urn:uuid:"))
                made.append({"EventId": str(len(self.taken))})
        return results(made)


async def test_recordings_reach_a_flaky_bus_over_a_kill(single: Server, tmp_path: Path) -> None:
    """With a bus that fails three entries in ten and a kill in between, each event arrives with its id (BATCH-6)."""
    runs = [a_run(single) for _ in range(60)]
    flaky = Flaky()
    with serving() as bus, forwarders(single, tmp_path, "eventbridge") as processes:
        bus.script += [flaky] * 10_000
        variables = {**CREDENTIALS, "AWS_ENDPOINT_URL": bus.url}
        process = await processes.start(SHORT_LEASE_MS, **variables)
        for keys in runs:
            await write(single, keys, [recording(keys), final(0), ended(1)])
        await eventually_async(lambda: len(flaky.taken) > 5, WAIT_S)
        process.send(signal.SIGKILL)
        process.ended()
        await processes.start(SHORT_LEASE_MS, **variables)
        wanted = {event_id(keys, SEALED, Kind.BATCH_COMPLETED) for keys in runs}
        await eventually_async(lambda: set(flaky.taken) == wanted, WAIT_S)

        async def all_stand() -> bool:
            return all([await is_at_position(single, keys, sink="eventbridge") for keys in runs])

        await eventually_async(all_stand, WAIT_S)
    assert await dead_letters_of(single, "eventbridge") == []
