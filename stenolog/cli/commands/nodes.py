"""`stenolog nodes`."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.command(cls=Examples, epilog=(
    "stenolog nodes\n"
    "REDIS_URL=redis://10.0.0.1,redis://10.0.0.2 stenolog nodes --json | jq '.[] | .ops_per_s'"
))
@options("data")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def nodes(*, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Show what each node of Redis carries: partitions, runs, keys, commands a second, memory, replicas.

    Partitions lie evenly over the slots; a node that has more of the rest than of them has a hot one.
    """
    from stenolog.cli.nodes import run  # noqa: PLC0415

    run(overrides, as_json=as_json)
