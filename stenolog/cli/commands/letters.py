"""`stenolog dead-letters`."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.group("dead-letters")
def dead_letters() -> None:
    """What could not be applied or forwarded: list it, look at it, have it sent once more."""


@dead_letters.command("list", cls=Examples, epilog=(
    "stenolog dead-letters list\n"
    "stenolog dead-letters list eventbridge --json | jq -r '.[].reason' | sort | uniq -c"
))
@click.argument("projection", required=False)
@options("data")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Most letters listed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_dead_letters(**given: Any) -> None:  # noqa: ANN401
    """List dead letters, of PROJECTION or of all: when, of which session and fact, and why; never what was said."""
    from stenolog.cli.dead_letters import run_list  # noqa: PLC0415

    run_list(**given)


@dead_letters.command("show", cls=Examples, epilog=(
    "stenolog dead-letters show eventbridge:12:1700000000000-0\n"
    "stenolog dead-letters show eventbridge:12:1700000000000-0 --body | jq .data"
))
@click.argument("letter_id", metavar="ID")
@options("data")
@click.option("--body", is_flag=True, help="Print the event itself as JSON, made anew from the facts: it holds speech.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show_dead_letter(**given: Any) -> None:  # noqa: ANN401
    """Show one dead letter, by the ID that `list` gives; exit status 1 if there is none."""
    from stenolog.cli.dead_letters import run_show  # noqa: PLC0415

    run_show(**given)


@dead_letters.command("redrive", cls=Examples, epilog=(
    "stenolog dead-letters redrive eventbridge --all\n"
    "stenolog dead-letters redrive webhooks webhooks:12:1700000000000-0"
))
@click.argument("projection")
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="All that there are now.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def redrive_dead_letters(**given: Any) -> None:  # noqa: ANN401
    """Have the sink PROJECTION be told once more of dead letters, by whatever process forwards to it.

    One that fails again comes back to the dead letters. One whose facts are gone, expired or erased, is dropped.
    Exit status 1 if one of the IDs isn't there.
    """
    from stenolog.cli.dead_letters import run_redrive  # noqa: PLC0415

    run_redrive(**given)
