"""The load of each Redis node, which shows whether the deployment lies evenly on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.log import LogUnavailableError

if TYPE_CHECKING:
    from eventlog.redis.server import Server


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One master."""

    node: str
    """Its address."""
    partitions: int
    """Of the deployment that lie there."""
    runs: int
    """In those, live ones and replays, while something of them is retained."""
    keys: int
    """All, of other databases and deployments too."""
    ops_per_s: int
    """Commands in the last second, by its own count."""
    memory_bytes: int
    replicas: int
    """Connected now."""


async def read_nodes(server: Server) -> list[NodeView]:
    """Return every master that answers, by its address.

    Raises:
        LogUnavailableError: if none does.
    """
    infos = await server.each_master("INFO")
    counts = await server.execute_many([("ZCARD", keys.index) for keys in server.keys.partitions])
    runs: dict[str, list[int]] = {}
    for keys, count in zip(server.keys.partitions, counts, strict=True):
        if not isinstance(count, LogUnavailableError):
            runs.setdefault(server.node_of(keys.index), []).append(int(count))
    return [_view(node, info, runs.get(node, [])) for node, info in sorted(infos.items())]


def _view(node: str, info: Mapping[str, Any], runs: list[int]) -> NodeView:
    databases = [value for name, value in info.items() if name.startswith("db") and isinstance(value, Mapping)]
    return NodeView(
        node=node, partitions=len(runs), runs=sum(runs),
        keys=sum(int(one.get("keys", 0)) for one in databases), ops_per_s=int(info["instantaneous_ops_per_sec"]),
        memory_bytes=int(info["used_memory"]), replicas=int(info["connected_slaves"]),
    )  # fmt: skip
