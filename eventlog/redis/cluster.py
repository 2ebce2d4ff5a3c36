"""Pipelines over a Redis Cluster, in which each node answers for itself.

Redis-py's own pipeline fails as a whole when one node is unreachable, asks the server where some commands have their
keys, and closes every connection before it tries again. Here an unreachable node fails its own commands only, and from
the second round on at once, until it answers again or its slots have moved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from redis.asyncio.cluster import ClusterNode, PipelineCommand, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from eventlog.log import LogUnavailableError
from eventlog.redis.failures import RedisCall

PROBE_PERIOD_S = 0.25
"""Between two probes of an unreachable node: a restart or failover takes seconds, a probe half a millisecond."""

ATTEMPTS = 2
"""One more than one covers a connection that the server closed while it lay in the pool."""

_log = logging.getLogger(__name__)

Command = Sequence[str | bytes | int | float]

# Where the first key stands; after the name in all others that are used.
_KEY_AT = {"EVAL": 3, "EVALSHA": 3, "XGROUP": 2, "XINFO": 2}
_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
_REDIRECTED = (MovedError, AskError, TryAgainError)


async def initialize(client: RedisCluster) -> None:
    """Learn the cluster's layout, and its commands from any master that answers.

    Redis-py asks the first master alone for the commands, and gives up if that one is unreachable.

    Raises:
        RedisError: if no node gives the layout, or no master answers.
    """
    await client.nodes_manager.initialize()
    failure: Exception = RedisConnectionError("the cluster has no master")
    for node in client.get_primaries():
        try:
            await client.commands_parser.initialize(node)
        except (RedisError, OSError) as error:
            failure = error
            continue
        client._initialize = False  # noqa: SLF001 - what its own method does at its end; a test holds it
        return
    await client.nodes_manager.aclose()
    raise failure


def count_replicas(answer: Any) -> int:  # noqa: ANN401 - WAIT's answer, or an exception
    """Return the replicas that WAIT counted: none if it failed, as at a master that has just been demoted."""
    return answer if isinstance(answer, int) else 0


class ClusterPipeline:
    """Sends commands to the cluster's nodes, and keeps account of which of them are unreachable."""

    def __init__(self, client: RedisCluster) -> None:
        """Use the nodes of `client`, which must be initialized."""
        self._client = client
        self._unreachable: dict[str, Exception] = {}
        self._probes: set[asyncio.Task[None]] = set()

    async def execute(self, commands: Sequence[Command], wait: Command = ()) -> tuple[list[Any], list[int]]:
        """Return each command's answer, or the exception it failed with, in order; all nodes at once.

        Also return the replicas that `wait`, a WAIT behind the commands of each node, counted for each command.
        """
        numbered = [PipelineCommand(number, *command) for number, command in enumerate(commands)]
        by_node: dict[str, tuple[ClusterNode, list[PipelineCommand]]] = {}
        for command in numbered:
            try:
                node = self._node(command.args)
            except SlotNotCoveredError as error:
                command.result = error
                self._start_probe(None)
                continue
            if node.name in self._unreachable:
                command.result = RedisConnectionError(f"{node.name} is unreachable: {self._unreachable[node.name]}")
            else:
                by_node.setdefault(node.name, (node, []))[1].append(command)
        counted = await asyncio.gather(*(self._send(node, part, wait) for node, part in by_node.values()))
        counts = {number: count for one in counted for number, count in one.items()}
        return [command.result for command in numbered], [counts.get(number, 0) for number in range(len(numbered))]

    def node_of(self, key: str) -> str:
        """Return the name of the master that has `key`; empty if no master has it."""
        try:
            return str(self._node(("GET", key)).name)
        except SlotNotCoveredError:
            return ""

    def is_unreachable(self, key: str) -> bool:
        """Whether the master that has `key` doesn't answer, or no master has it."""
        name = self.node_of(key)
        return not name or name in self._unreachable

    async def each_master(self, command: Command) -> dict[str, Any]:
        """Return every master's answer to a command without keys, or the exception it failed with, by its name."""
        sent = {
            str(node.name): (node, PipelineCommand(0, *command))
            for node in self._client.get_primaries()
            if node.name not in self._unreachable
        }
        await asyncio.gather(*(self._send(node, [one]) for node, one in sent.values()))
        return {name: one.result for name, (_, one) in sent.items()}

    async def time(self) -> tuple[int, int]:
        """Return the clock of the first master that answers, in seconds and microseconds.

        Raises:
            ConnectionError: if none does.
        """
        for node in sorted(self._client.get_primaries(), key=lambda node: str(node.name)):
            if node.name not in self._unreachable:
                [command] = commands = [PipelineCommand(0, "TIME")]
                await self._send(node, commands)
                if not isinstance(command.result, Exception):
                    seconds, microseconds = command.result
                    return int(seconds), int(microseconds)
        raise RedisConnectionError("no node of the cluster answers")

    async def close(self) -> None:
        """Stop probing unreachable nodes."""
        probes = list(self._probes)
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    def _node(self, command: Command) -> ClusterNode:
        name = str(command[0]).upper()
        at = command.index("STREAMS") + 1 if name in {"XREAD", "XREADGROUP"} else _KEY_AT.get(name, 1)
        key = command[at] if at < len(command) else ""
        node = self._client.get_node_from_key(key.decode() if isinstance(key, bytes) else str(key))
        assert node is not None  # noqa: S101 - only a search for replicas finds none
        return node

    async def _send(self, node: ClusterNode, commands: list[PipelineCommand], wait: Command = ()) -> dict[int, int]:
        """Set each command's result to the node's answer, or to its exception; raise nothing but cancellation.

        Returns the replicas that `wait` counted behind each command, by the command's number; a command that `wait`
        did not run behind is left out.
        """
        lost = commands
        counts: dict[int, int] = {}
        for _ in range(ATTEMPTS):
            last = [PipelineCommand(-1, *wait)] if wait else []
            sent = lost
            try:
                await node.execute_pipeline([*sent, *last])
            except _LOST as error:
                for command in [*sent, *last]:
                    command.result = error
            lost = [command for command in sent if isinstance(command.result, _LOST)]
            if last:
                replicas = count_replicas(last[0].result)
                counts.update((command.position, replicas) for command in sent if not isinstance(command.result, _LOST))
            if not lost or any(isinstance(command.result, RedisTimeoutError | TimeoutError) for command in lost):
                break
            await node.disconnect_free_connections()
        if lost:
            self._start_probe(node, lost[0].result)
        for command in commands:
            if isinstance(command.result, _REDIRECTED):
                counts[command.position] = 0  # it goes to another node, where no WAIT runs behind it
                await self._redirect(command)
            elif isinstance(command.result, ClusterDownError):
                self._start_probe(None)
        return counts

    async def _redirect(self, command: PipelineCommand) -> None:
        """Send a command to the node that the first one named; the slot's new place is known from then on."""
        try:
            command.result = await self._client.execute_command(*command.args)
        except (RedisError, OSError) as error:
            command.result = error

    def _start_probe(self, node: ClusterNode | None, error: Exception | None = None) -> None:
        """Learn the cluster's layout again in the background, and send nothing to `node` until it answers."""
        name = f"probe {node.name if node else 'layout'}"
        if any(probe.get_name() == name for probe in self._probes):
            return
        if node is not None and error is not None:
            _log.warning("cluster node unreachable; probing it", extra={"node": node.name, "error": error})
            self._unreachable[node.name] = error
        probe = asyncio.get_running_loop().create_task(self._probe(node), name=name)
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _probe(self, node: ClusterNode | None) -> None:
        while True:
            if await self._is_healthy(node):
                break
            await asyncio.sleep(PROBE_PERIOD_S)
        if node is not None:
            _log.info("cluster node answered again or left the cluster", extra={"node": node.name})
            self._unreachable.pop(node.name, None)

    async def _is_healthy(self, node: ClusterNode | None) -> bool:
        """Whether the layout could be learnt, and the node answers or is no part of it any more."""
        try:
            with RedisCall():
                await self._client.nodes_manager.initialize()
                if node is not None and self._client.get_node(node_name=node.name) is node:
                    await node.execute_command("PING")
        except (LogUnavailableError, RedisError, OSError) as error:
            _log.debug("cluster probe failed; repeating it", extra={"error": error})
            return False
        return True
