"""Wake-ups over real servers, and their recovery."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

import eventlog.redis.wakeups
from eventlog.redis.server import Server, connect
from eventlog.redis.wakeups import Wakeups
from tests.support import servers
from tests.support.servers import Server as TestServer
from tests.support.waiting import eventually_async


class Ear:
    """A subscriber, and the messages that it received."""

    def __init__(self, server: Server) -> None:
        self.channels = [partition.changes_wakeup for partition in server.keys.partitions]
        self.heard: list[tuple[str, bytes]] = []
        self.resets = 0
        self.server = server
        self.bells = Wakeups(server, self.channels, lambda *message: self.heard.append(message), self._reset)

    def _reset(self) -> None:
        self.resets += 1

    async def ring(self, *numbers: int) -> None:
        """Publishes on some channels."""
        await self.server.execute_many([("SPUBLISH", self.channels[number], f"p{number}") for number in numbers])

    async def hears(self, *numbers: int) -> bool:
        """Publishes once more; true once a message of every one of the channels was received."""
        await self.ring(*numbers)
        return {self.channels[number] for number in numbers} <= {channel for channel, _ in self.heard}


@pytest.fixture
async def ear(server: TestServer) -> AsyncIterator[Ear]:
    """A subscriber that is not started yet."""
    connected = await connect(server.url)
    ear = Ear(connected)
    yield ear
    await ear.bells.stop()
    await connected.close()


@pytest.fixture
def stallable() -> Iterator[TestServer]:
    """A server that may be stopped without harm to other tests."""
    with servers.standalone() as server:
        yield server


async def test_every_partition_wakes_with_its_payload(ear: Ear) -> None:
    """A message on any partition's channel arrives once, with channel and payload."""
    await ear.bells.start()
    await ear.bells.listening()
    numbers = range(len(ear.channels))
    await ear.ring(*numbers)
    await eventually_async(lambda: len(ear.heard) >= len(numbers))
    assert sorted(ear.heard) == sorted((ear.channels[number], b"p%d" % number) for number in numbers)
    assert ear.resets >= 1


async def test_a_killed_connection_comes_back_with_a_reset(ear: Ear, server: TestServer) -> None:
    """After its connections were killed a subscriber receives again, after a reset for missed messages."""
    await ear.bells.start()
    await ear.bells.listening()
    before = ear.resets
    for node in server.nodes:
        node.client.client_kill_filter(_type="pubsub")
    await eventually_async(lambda: ear.resets >= before + len(server.nodes))
    await eventually_async(lambda: ear.hears(0, 21, 42, 63))


async def test_half_dead_server_is_noticed_and_outlived(
    stallable: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes bytes and never answers is given up, and subscribed again once it answers."""
    monkeypatch.setattr(eventlog.redis.wakeups, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(eventlog.redis.wakeups, "CONFIRM_TIMEOUT_S", 0.2)
    connected = await connect(stallable.url)
    ear = Ear(connected)
    await ear.bells.start()
    await ear.bells.listening()
    [node] = stallable.nodes
    os.kill(node.process.pid, signal.SIGSTOP)
    await eventually_async(lambda: not ear.bells.is_listening)
    os.kill(node.process.pid, signal.SIGCONT)
    await ear.bells.listening()
    await eventually_async(lambda: ear.hears(7))
    assert ear.resets == 2
    await ear.bells.stop()
    await connected.close()


async def test_wakeups_follow_a_slot_to_its_new_node(cluster: TestServer) -> None:
    """When a partition's slot moves to another master its wake-ups come from there."""
    connected = await connect(cluster.url)
    ear = Ear(connected)
    await ear.bells.start()
    await ear.bells.listening()
    slot = cluster.nodes[0].command("CLUSTER KEYSLOT", ear.channels[0])
    try:
        _move(cluster, slot, to=2)
        await eventually_async(lambda: ear.hears(0, 1, 63))
        cluster.nodes[2].command("SPUBLISH", ear.channels[0], "from the new node")
        await eventually_async(lambda: (ear.channels[0], b"from the new node") in ear.heard)
    finally:
        _move(cluster, slot, to=0)
        await ear.bells.stop()
        await connected.close()


async def test_a_callback_that_raises_does_not_end_the_subscription(ear: Ear) -> None:
    """A callback's defect costs a reconnection, not the wake-ups."""
    failures = [ValueError("once")]
    listed = ear.bells._on_message

    def faulty(channel: str, payload: bytes) -> None:
        if failures:
            raise failures.pop()
        listed(channel, payload)

    ear.bells._on_message = faulty
    await ear.bells.start()
    await ear.bells.listening()
    await eventually_async(lambda: ear.hears(5))
    assert not failures


async def test_start_races_stop(ear: Ear) -> None:
    """Starting and stopping in any order, at once and repeatedly, ends stopped with no task left."""
    for _ in range(5):
        await asyncio.gather(ear.bells.start(), ear.bells.stop(), ear.bells.start())
    await ear.bells.stop()
    await ear.bells.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "bells"]


def _move(cluster: TestServer, slot: int, *, to: int) -> None:
    node_id = cluster.nodes[to].command("CLUSTER MYID")
    for node in cluster.nodes:
        node.command("CLUSTER SETSLOT", slot, "NODE", node_id)
