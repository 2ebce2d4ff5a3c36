"""Rounds of commands over a Redis Cluster, in which each node answers for itself.

Redis-py's own pipeline fails as a whole when one node is away, asks the server where some commands have their keys, and
closes every connection before it tries again. Here a node that is away fails its own commands only, and from the second
round on at once, until it answers again or its slots have moved.
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

from eventlog.redis.cancellation import honoured

HEAL_S = 0.25
"""Between two looks at a node that is away: a restart or failover takes seconds, a look half a millisecond."""

TRIES = 2
"""One more than one covers a connection that the server closed while it lay in the pool."""

log = logging.getLogger(__name__)

Command = Sequence[str | bytes | int | float]

# Where the first key stands; after the name in all others that are used.
_KEY_AT = {"EVAL": 3, "EVALSHA": 3, "XGROUP": 2, "XINFO": 2}
_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
_REDIRECTED = (MovedError, AskError, TryAgainError)


async def initialize(client: RedisCluster) -> None:
    """Learn the cluster's layout, and its commands from any master that answers.

    Redis-py asks the first master alone for the commands, and gives up if that is the one that is away.

    Raises:
        RedisError: if no node tells the layout, or no master answers.
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


def replicas_told(answer: Any) -> int:  # noqa: ANN401 - WAIT's answer, or an exception
    """How many replicas WAIT told of: none if it failed, as at a master that has just been demoted."""
    return answer if isinstance(answer, int) else 0


class Rounds:
    """The cluster's nodes, and which of them are away."""

    def __init__(self, client: RedisCluster) -> None:
        """Use the nodes of `client`, which must be initialized."""
        self._client = client
        self._away: dict[str, Exception] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def execute(self, commands: Sequence[Command], wait: Command = ()) -> tuple[list[Any], list[int]]:
        """Each command's answer, or the exception it failed with, in order; all nodes at once.

        And how many replicas its node's connection was told of by `wait`, a WAIT behind the node's commands.
        """
        asked = [PipelineCommand(number, *command) for number, command in enumerate(commands)]
        by_node: dict[str, tuple[ClusterNode, list[PipelineCommand]]] = {}
        for command in asked:
            try:
                node = self._node(command.args)
            except SlotNotCoveredError as error:
                command.result = error
                self._watch(None)
                continue
            if node.name in self._away:
                command.result = RedisConnectionError(f"{node.name} is away: {self._away[node.name]}")
            else:
                by_node.setdefault(node.name, (node, []))[1].append(command)
        told = await asyncio.gather(*(self._ask(node, part, wait) for node, part in by_node.values()))
        counts = {number: count for one in told for number, count in one.items()}
        return [command.result for command in asked], [counts.get(number, 0) for number in range(len(asked))]

    def node_of(self, key: str) -> str:
        """The name of the master that has `key`; empty if there is none."""
        try:
            return str(self._node(("GET", key)).name)
        except SlotNotCoveredError:
            return ""

    def is_away(self, key: str) -> bool:
        """Whether the master that has `key` doesn't answer, or there is none."""
        name = self.node_of(key)
        return not name or name in self._away

    async def each_master(self, command: Command) -> dict[str, Any]:
        """The answer of every master to a command without keys, or the exception it failed with, by its name."""
        asked = {
            str(node.name): (node, PipelineCommand(0, *command))
            for node in self._client.get_primaries()
            if node.name not in self._away
        }
        await asyncio.gather(*(self._ask(node, [one]) for node, one in asked.values()))
        return {name: one.result for name, (_, one) in asked.items()}

    async def time(self) -> tuple[int, int]:
        """The clock of the first master that answers, in seconds and microseconds.

        Raises:
            ConnectionError: if none does.
        """
        for node in sorted(self._client.get_primaries(), key=lambda node: str(node.name)):
            if node.name not in self._away:
                [command] = commands = [PipelineCommand(0, "TIME")]
                await self._ask(node, commands)
                if not isinstance(command.result, Exception):
                    seconds, microseconds = command.result
                    return int(seconds), int(microseconds)
        raise RedisConnectionError("no node of the cluster answers")

    async def close(self) -> None:
        """Stop looking at nodes that are away."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _node(self, command: Command) -> ClusterNode:
        name = str(command[0]).upper()
        at = command.index("STREAMS") + 1 if name in {"XREAD", "XREADGROUP"} else _KEY_AT.get(name, 1)
        key = command[at] if at < len(command) else ""
        node = self._client.get_node_from_key(key.decode() if isinstance(key, bytes) else str(key))
        assert node is not None  # noqa: S101 - only a search for replicas finds none
        return node

    async def _ask(self, node: ClusterNode, commands: list[PipelineCommand], wait: Command = ()) -> dict[int, int]:
        """Have one node answer; sets each command's result, and raises nothing but cancellation.

        Returns what `wait` said behind each command, by the command's number; nothing of those it wasn't said behind.
        """
        lost = commands
        counts: dict[int, int] = {}
        for _ in range(TRIES):
            last = [PipelineCommand(-1, *wait)] if wait else []
            sent = lost
            try:
                await node.execute_pipeline([*sent, *last])
            except _LOST as error:
                for command in [*sent, *last]:
                    command.result = error
            lost = [command for command in sent if isinstance(command.result, _LOST)]
            if last:
                told = replicas_told(last[0].result)
                counts.update((command.position, told) for command in sent if not isinstance(command.result, _LOST))
            if not lost or any(isinstance(command.result, RedisTimeoutError | TimeoutError) for command in lost):
                break
            await node.disconnect_free_connections()
        if lost:
            self._watch(node, lost[0].result)
        for command in commands:
            if isinstance(command.result, _REDIRECTED):
                counts[command.position] = 0  # it goes to another node, where nobody waits behind it
                await self._follow(command)
            elif isinstance(command.result, ClusterDownError):
                self._watch(None)
        return counts

    async def _follow(self, command: PipelineCommand) -> None:
        """Ask where the node sent us; the slot's new place is known from then on."""
        try:
            command.result = await self._client.execute_command(*command.args)
        except (RedisError, OSError) as error:
            command.result = error

    def _watch(self, node: ClusterNode | None, error: Exception | None = None) -> None:
        """Learn the cluster's layout anew in the background, and keep away from `node` until it answers."""
        name = f"heal {node.name if node else 'layout'}"
        if any(task.get_name() == name for task in self._tasks):
            return
        if node is not None and error is not None:
            log.warning("a node of the cluster is away", extra={"node": node.name, "error": error})
            self._away[node.name] = error
        task = asyncio.get_running_loop().create_task(self._heal(node), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _heal(self, node: ClusterNode | None) -> None:
        while True:
            if await self._is_well(node):
                break
            await asyncio.sleep(HEAL_S)
        if node is not None:
            log.info("a node of the cluster is back, or has left", extra={"node": node.name})
            self._away.pop(node.name, None)

    async def _is_well(self, node: ClusterNode | None) -> bool:
        """Whether the layout could be learnt, and the node answers or is no part of it any more."""
        try:
            with honoured():
                await self._client.nodes_manager.initialize()
                if node is not None and self._client.get_node(node_name=node.name) is node:
                    await node.execute_command("PING")
        except (RedisError, OSError) as error:
            log.debug("still away", extra={"error": error})
            return False
        return True
