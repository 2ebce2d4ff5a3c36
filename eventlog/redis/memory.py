"""How full Redis is, node by node, and which watermarks that has passed."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.asyncio.cluster import ClusterNode, RedisCluster

from eventlog.log import LogUnavailableError
from eventlog.redis.failures import RedisCall

if TYPE_CHECKING:
    from eventlog.keys import PartitionKeys
    from eventlog.redis.server import Server

ONE_NODE = "redis"
"""Name of a Redis that is no cluster."""

HYSTERESIS_PERCENT = 2.0
"""A watermark stays passed until memory is so much below it: or each freed chunk would let a thousand sessions append
for a moment."""

ANSWER_TIMEOUT_S = 2.0
"""For a node to report its memory, which takes it 20 µs: one that stalls shall not hide the others' answers."""


class Level(enum.IntEnum):
    """The highest watermark that a node has passed."""

    NORMAL = 0
    HIGH = 1
    """It gets no new sessions: those that exist can still end, and end whole."""
    CRITICAL = 2
    """It gets no audio, so that the workers and projections that drain it have room to work in."""


class NodeMemory(NamedTuple):
    """The memory that one node uses, and its limit."""

    used_bytes: int
    limit_bytes: int
    """0 if it has no limit."""

    @property
    def percent(self) -> float:
        """How full it is; 0 without a limit."""
        return 100 * self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


class Watermarks(NamedTuple):
    """Shares of a node's memory, in percent, past which it gets no new sessions, or no audio."""

    high_percent: float = 80.0
    critical_percent: float = 90.0

    def level(self, percent: float, before: Level) -> Level:
        """Return the level of a node that is so full and was at level `before` when it was last read."""
        for level, mark in ((Level.CRITICAL, self.critical_percent), (Level.HIGH, self.high_percent)):
            if percent >= mark - (HYSTERESIS_PERCENT if before >= level else 0.0):
                return level
        return Level.NORMAL


async def read_memory(server: Server, *, limit_bytes: int = 0) -> dict[str, NodeMemory]:
    """Return the memory of each node that answers, by its name; `limit_bytes` is the limit of nodes without one.

    Raises:
        LogUnavailableError: if none answers.
    """
    if not isinstance(server.client, RedisCluster):
        return {ONE_NODE: _node_memory(await server.execute("INFO", "memory"), limit_bytes)}
    nodes = server.client.get_primaries()
    answers = await asyncio.gather(*map(_read_info, nodes), return_exceptions=True)
    found: dict[str, NodeMemory] = {}
    failure: LogUnavailableError | None = None
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, LogUnavailableError):
            failure = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[str(node.name)] = _node_memory(answer, limit_bytes)
    if failure is not None and not found:
        raise failure
    return found


def node_of(server: Server, partition: PartitionKeys) -> str:
    """Return the name of the node that a partition lies on, as in `read_memory`; empty while it is unknown."""
    if not isinstance(server.client, RedisCluster):
        return ONE_NODE
    # Not the client's own look-up, which raises where a slot has no node just now.
    slot = server.client.keyslot(partition.changes)
    nodes = server.client.nodes_manager.slots_cache.get(slot)
    return str(nodes[0].name) if nodes else ""


async def _read_info(node: ClusterNode) -> Mapping[str, Any]:
    with RedisCall():
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer: Mapping[str, Any] = await node.execute_command("INFO", "memory")
            return answer


def _node_memory(info: Mapping[str, Any], limit_bytes: int) -> NodeMemory:
    # Redis's own limit leaves out what replicas and the append-only file have buffered.
    used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    return NodeMemory(max(0, used), int(info.get("maxmemory", 0)) or limit_bytes)
