"""A cluster whose masters die and whose replicas take their place, and the messages that speakers get meanwhile."""

import asyncio
import signal
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import redis
from redis.crc import key_slot

from tests.e2e.deployment import undisturbed
from tests.e2e.processes import Edge, Roles, Speaker, spoken, texts
from tests.support import metric_samples
from tests.support.servers import Node, Server
from tests.support.waiting import eventually, eventually_async

Value = TypeVar("Value")

MOST_TRIES = 100
"""Sessions get random partitions, and one of a given node's in three."""


class ClusterRoles(Roles):
    """Roles over a cluster."""

    def __init__(self, server: Server, directory: Path) -> None:
        """All of them get every node's address."""
        super().__init__(server.url, directory)
        self._variables["REDIS_URL"] = ",".join(node.url for node in server.nodes)
        self.redis.close()
        # Of its methods the tests use none that another client hasn't.
        self.redis = redis.RedisCluster.from_url(server.url, decode_responses=True)  # type: ignore[assignment]


class Pair:
    """A master and its replica."""

    def __init__(self, server: Server, key: str) -> None:
        """The pair that has `key`."""
        self.server = server
        self.master = next(node for node in server.nodes if is_master(node) and owns(node, key))
        self.replica = next(
            node for node in server.nodes
            if node.alive and not is_master(node) and follows(node, self.master)
        )  # fmt: skip

    def has(self, key: str) -> bool:
        """Whether the pair has that key too."""
        return owns(self.master, key)

    def part(self) -> None:
        """Cut the replica off from now on."""
        self.replica.process.send_signal(signal.SIGSTOP)
        # Else what the master sends would wait in the stopped one's socket, and be read in the end.
        self.master.client.client_kill_filter(_type="replica")

    def promoted(self) -> float:
        """Wait until the replica is the master and the cluster is whole; when that was, monotonic seconds."""
        eventually(lambda: is_master(self.replica), message="the replica is promoted")
        living = [node for node in self.server.nodes if node.alive]
        eventually(lambda: all(is_well(node) for node in living), message="the cluster is whole")
        return time.monotonic()

    def mend(self) -> float:
        """Start the dead master again, and wait until it follows its successor; when that was, monotonic seconds."""
        self.master.restart()
        eventually(lambda: follows(self.master, self.replica) and links(self.master), message="the old master follows")
        return time.monotonic()


def is_master(node: Node) -> bool:
    """Whether it lives and is a master."""
    return node.alive and node.client.info("replication")["role"] == "master"


def is_well(node: Node) -> bool:
    """Whether it sees a whole cluster."""
    info = node.command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_slots_ok"] == "16384")


def follows(node: Node, master: Node) -> bool:
    """Whether it is the master's replica."""
    info = node.client.info("replication")
    return bool(info["role"] == "slave" and info["master_port"] == master.port)


def links(node: Node) -> bool:
    """Whether a replica is in touch with its master."""
    return bool(node.client.info("replication").get("master_link_status") == "up")


def owns(node: Node, key: str) -> bool:
    """Whether a master has the key's slot, as it sees it."""
    slot, name = key_slot(key.encode()), node.command("CLUSTER MYID")
    ranges = node.client.eval("return redis.call('CLUSTER', 'SLOTS')", 0)
    return any(first <= slot <= last and master[2] == name for first, last, master, *_ in ranges)


async def speaker(edge: Edge, stack: AsyncExitStack, wanted: Callable[[str], bool] = lambda _: True) -> Speaker:
    """A client of `edge` with a session of an id that is wanted."""
    for _ in range(MOST_TRIES):
        found = edge.client()
        await found.__aenter__()
        await found.begin()
        if wanted(found.session_id):
            stack.push_async_callback(found.__aexit__)
            return found
        await found.__aexit__()
    raise AssertionError("no session's id was one that is wanted")


async def held(speaker: Speaker, sentences: Sequence[int]) -> None:
    """Have it speak in real time, to its end, and get every word exactly once, and no error."""
    await speaker.say(spoken(sentences), speed=1.0)
    end = await speaker.finish()
    kinds = [message["type"] for message in speaker.received]
    assert "error" not in kinds
    # A failover that loses finals makes the feed start again.
    latest = speaker.received[len(kinds) - 1 - kinds[::-1].index("reset") :] if "reset" in kinds else speaker.received
    finals = [message for message in latest if message["type"] == "final"]
    assert texts(finals) == undisturbed(sentences)
    assert end["transcript"] == " ".join(undisturbed(sentences))


async def acked_again(*speakers: Speaker) -> float:
    """Wait until each gets the ack of all audio sent by now; when that was, monotonic seconds."""
    sent = {one: one.sent_bytes // 2 for one in speakers}
    await eventually_async(lambda: all(one.durable >= sent[one] for one in speakers), message="acks come again")
    return time.monotonic()


def metric(edge: Edge, name: str) -> float:
    """A number that an edge counts."""
    with urllib.request.urlopen(f"{edge.url}/metrics", timeout=30) as answer:  # noqa: S310 - our own address
        return metric_samples.of(metric_samples.samples(answer.read().decode()), name)


async def in_thread(work: Callable[[], Value]) -> Value:
    """The result of a wait that blocks, while the speakers continue."""
    return await asyncio.to_thread(work)
