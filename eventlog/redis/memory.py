"""How full Redis is, node by node, and what that asks of those who write."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.asyncio.cluster import ClusterNode, RedisCluster

from eventlog.log import LogUnavailableError
from eventlog.redis.server import calling

if TYPE_CHECKING:
    from eventlog.keys import PartitionKeys
    from eventlog.redis.server import Server

ONE_NODE = "redis"
"""What a Redis that is no cluster is called."""

RELEASE_PERCENT = 2.0
"""A mark holds until memory is so much below it: or each freed chunk would let a thousand sessions go for a moment."""

ANSWER_S = 2.0
"""For a node to tell of itself, which takes it 20 µs: one that stalls shall not hide what the others say."""


class Level(enum.IntEnum):
    """What is asked of those who write."""

    FREE = 0
    """Nothing."""
    REFUSE = 1
    """No new sessions: what there is can still end, and end whole."""
    HOLD = 2
    """No audio, so that what drains has room to work in."""


class Memory(NamedTuple):
    """What one node holds, and may hold."""

    used_bytes: int
    limit_bytes: int
    """0 if there is no bound."""

    @property
    def percent(self) -> float:
        """How full it is; 0 without a bound."""
        return 100 * self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


class Watermarks(NamedTuple):
    """From which share of its memory, in percent, a node asks for what."""

    refuse_percent: float = 80.0
    hold_percent: float = 90.0

    def level(self, percent: float, before: Level) -> Level:
        """What a node asks for that is so full and asked for `before` when it was looked at last."""
        for level, mark in ((Level.HOLD, self.hold_percent), (Level.REFUSE, self.refuse_percent)):
            if percent >= mark - (RELEASE_PERCENT if before >= level else 0.0):
                return level
        return Level.FREE


async def read_memory(server: Server, *, limit_bytes: int = 0) -> dict[str, Memory]:
    """What each node that answers holds, by its name; `limit_bytes` is the bound of those that tell none.

    Raises:
        LogUnavailableError: if none answers.
    """
    if not isinstance(server.client, RedisCluster):
        return {ONE_NODE: _memory(await server.execute("INFO", "memory"), limit_bytes)}
    nodes = server.client.get_primaries()
    answers = await asyncio.gather(*map(_asked, nodes), return_exceptions=True)
    found: dict[str, Memory] = {}
    away: LogUnavailableError | None = None
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, LogUnavailableError):
            away = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[str(node.name)] = _memory(answer, limit_bytes)
    if away is not None and not found:
        raise away
    return found


def node_of(server: Server, partition: PartitionKeys) -> str:
    """The name of the node that a partition lies on, as `read_memory` has it; empty while nobody knows."""
    if not isinstance(server.client, RedisCluster):
        return ONE_NODE
    # Not the client's own look-up, which raises where a slot has no node just now.
    slot = server.client.keyslot(partition.changes)
    nodes = server.client.nodes_manager.slots_cache.get(slot)
    return str(nodes[0].name) if nodes else ""


async def _asked(node: ClusterNode) -> Mapping[str, Any]:
    with calling():
        async with asyncio.timeout(ANSWER_S):
            answer: Mapping[str, Any] = await node.execute_command("INFO", "memory")
            return answer


def _memory(info: Mapping[str, Any], limit_bytes: int) -> Memory:
    # Redis's own bound leaves out what replicas and the append-only file have buffered.
    used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    return Memory(max(0, used), int(info.get("maxmemory", 0)) or limit_bytes)
