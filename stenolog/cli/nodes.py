"""`stenolog nodes`: how the deployment lies on the nodes of Redis."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from eventlog.redis.nodes import NodeView, read_nodes
from stenolog.cli.errors import told
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("node", "partitions", "runs", "keys", "ops/s", "memory MiB", "replicas")
_MIB = 1 << 20


def run(overrides: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a line for each master, or a JSON array."""
    with told():
        found = asyncio.run(_nodes(load(**overrides)))
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    Console(highlight=False).print(_table(found))


async def _nodes(settings: Settings) -> Sequence[NodeView]:
    async with connected(settings) as server:
        return await read_nodes(server)


def _table(found: Sequence[NodeView]) -> Table:
    table = Table(_COLUMNS[0], box=None, pad_edge=False)
    for column in _COLUMNS[1:]:
        table.add_column(column, justify="right")
    for one in found:
        numbers = (one.partitions, one.runs, one.keys, one.ops_per_s, one.memory_bytes // _MIB, one.replicas)
        table.add_row(one.node, *map(str, numbers))
    return table
