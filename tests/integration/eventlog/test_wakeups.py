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


class Subscriber:
    """A subscriber, and the messages that it received."""

    def __init__(self, server: Server) -> None:
        self.channels = [partition.changes_wakeup for partition in server.keys.partitions]
        self.received: list[tuple[str, bytes]] = []
        self.resets = 0
        self.server = server
        self.wakeups = Wakeups(server, self.channels, lambda *message: self.received.append(message), self._reset)

    def _reset(self) -> None:
        self.resets += 1

    async def publish(self, *numbers: int) -> None:
        """Publishes on some channels."""
        await self.server.execute_many([("SPUBLISH", self.channels[number], f"p{number}") for number in numbers])

    async def receives(self, *numbers: int) -> bool:
        """Publishes once more; true once a message of every one of the channels was received."""
        await self.publish(*numbers)
        return {self.channels[number] for number in numbers} <= {channel for channel, _ in self.received}


@pytest.fixture
async def subscriber(server: TestServer) -> AsyncIterator[Subscriber]:
    """A subscriber that is not started yet."""
    connected = await connect(server.url)
    subscriber = Subscriber(connected)
    yield subscriber
    await subscriber.wakeups.stop()
    await connected.close()


@pytest.fixture
def stallable() -> Iterator[TestServer]:
    """A server that may be stopped without harm to other tests."""
    with servers.standalone() as server:
        yield server


async def test_every_partition_wakes_with_its_payload(subscriber: Subscriber) -> None:
    """A message on any partition's channel arrives once, with channel and payload."""
    await subscriber.wakeups.start()
    await subscriber.wakeups.listening()
    numbers = range(len(subscriber.channels))
    await subscriber.publish(*numbers)
    await eventually_async(lambda: len(subscriber.received) >= len(numbers))
    assert sorted(subscriber.received) == sorted((subscriber.channels[number], b"p%d" % number) for number in numbers)
    assert subscriber.resets >= 1


async def test_a_killed_connection_comes_back_with_a_reset(subscriber: Subscriber, server: TestServer) -> None:
    """After its connections were killed a subscriber receives again, after a reset for missed messages."""
    await subscriber.wakeups.start()
    await subscriber.wakeups.listening()
    before = subscriber.resets
    for node in server.nodes:
        node.client.client_kill_filter(_type="pubsub")
    await eventually_async(lambda: subscriber.resets >= before + len(server.nodes))
    await eventually_async(lambda: subscriber.receives(0, 21, 42, 63))


async def test_half_dead_server_is_noticed_and_outlived(
    stallable: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes bytes and never answers is given up, and subscribed again once it answers."""
    monkeypatch.setattr(eventlog.redis.wakeups, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(eventlog.redis.wakeups, "CONFIRM_TIMEOUT_S", 0.2)
    connected = await connect(stallable.url)
    subscriber = Subscriber(connected)
    await subscriber.wakeups.start()
    await subscriber.wakeups.listening()
    [node] = stallable.nodes
    os.kill(node.process.pid, signal.SIGSTOP)
    await eventually_async(lambda: not subscriber.wakeups.is_listening)
    os.kill(node.process.pid, signal.SIGCONT)
    await subscriber.wakeups.listening()
    await eventually_async(lambda: subscriber.receives(7))
    assert subscriber.resets == 2
    await subscriber.wakeups.stop()
    await connected.close()


async def test_wakeups_follow_a_slot_to_its_new_node(cluster: TestServer) -> None:
    """When a partition's slot moves to another master its wake-ups come from there."""
    connected = await connect(cluster.url)
    subscriber = Subscriber(connected)
    await subscriber.wakeups.start()
    await subscriber.wakeups.listening()
    slot = cluster.nodes[0].command("CLUSTER KEYSLOT", subscriber.channels[0])
    try:
        _move(cluster, slot, to=2)
        await eventually_async(lambda: subscriber.receives(0, 1, 63))
        cluster.nodes[2].command("SPUBLISH", subscriber.channels[0], "from the new node")
        await eventually_async(lambda: (subscriber.channels[0], b"from the new node") in subscriber.received)
    finally:
        _move(cluster, slot, to=0)
        await subscriber.wakeups.stop()
        await connected.close()


async def test_a_callback_that_raises_does_not_end_the_subscription(subscriber: Subscriber) -> None:
    """A callback's defect costs a reconnection, not the wake-ups."""
    failures = [ValueError("once")]
    listed = subscriber.wakeups._on_message

    def faulty(channel: str, payload: bytes) -> None:
        if failures:
            raise failures.pop()
        listed(channel, payload)

    subscriber.wakeups._on_message = faulty
    await subscriber.wakeups.start()
    await subscriber.wakeups.listening()
    await eventually_async(lambda: subscriber.receives(5))
    assert not failures


async def test_start_races_stop(subscriber: Subscriber) -> None:
    """Starting and stopping in any order, at once and repeatedly, ends stopped with no task left."""
    for _ in range(5):
        await asyncio.gather(subscriber.wakeups.start(), subscriber.wakeups.stop(), subscriber.wakeups.start())
    await subscriber.wakeups.stop()
    await subscriber.wakeups.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "wakeups"]


def _move(cluster: TestServer, slot: int, *, to: int) -> None:
    node_id = cluster.nodes[to].command("CLUSTER MYID")
    for node in cluster.nodes:
        node.command("CLUSTER SETSLOT", slot, "NODE", node_id)
