"""`stenolog nodes`: the load of each Redis node."""

import asyncio
from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table

from eventlog.redis.nodes import NodeView, read_nodes
from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.output import output_console, print_json
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("node", "partitions", "runs", "keys", "ops/s", "memory MiB", "replicas")
_MIB = 1 << 20


@click.command(cls=ExampleCommand, epilog=(
    "stenolog nodes\n"
    "REDIS_URL=redis://10.0.0.1,redis://10.0.0.2 stenolog nodes --json | jq '.[] | .ops_per_s'"
))
@options("data", "json")
def nodes(*, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Show the load of each Redis node: partitions, runs, keys, commands a second, memory, replicas.

    Partitions lie evenly over the slots; a node with more of the rest than of them has a hot one.
    """
    found = asyncio.run(_nodes(load(**overrides)))
    if as_json:
        print_json(found)
    else:
        output_console().print(_table(found))


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
