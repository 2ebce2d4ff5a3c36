"""`stenolog rebuild`."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.command(cls=Examples, epilog=(
    "stenolog rebuild lists\n"
    "stenolog rebuild sessions --verify --json | jq .differing\n"
    "stenolog rebuild feeds $SESSION"
))
@click.argument("projection", metavar="lists|feeds|sessions|status")
@click.argument("session_ids", metavar="[SESSION]...", nargs=-1)
@options("data")
@click.option("--verify", is_flag=True, help="Compare what was there with what takes its place.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def rebuild(**given: Any) -> None:  # noqa: ANN401
    """Make the read models of PROJECTION anew from the facts, of each SESSION or of all, while everything goes on.

    Each run's is built beside the old one and takes its place at once; what this is interrupted at stays as it was.
    Exit status 1 if something could not be rebuilt, or if with --verify something was not what the facts say.
    """
    from stenolog.cli.rebuild import run  # noqa: PLC0415

    run(**given)
