"""`stenolog set-aside`."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.group("set-aside")
def set_aside() -> None:
    """Sessions that can't be processed, or killed what processed them: list them, take them up again, end them."""


@set_aside.command("list", cls=Examples, epilog=(
    "stenolog set-aside list\n"
    "stenolog set-aside list --json | jq -r '.[].reason' | sort | uniq -c"
))
@options("data")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_set_aside(**given: Any) -> None:  # noqa: ANN401
    """List what was set aside: when, which session and run, why, by which worker, and how often by now."""
    from stenolog.cli.quarantine import run_list  # noqa: PLC0415

    run_list(**given)


@set_aside.command("redrive", cls=Examples, epilog=(
    "stenolog set-aside redrive --all\n"
    "stenolog set-aside redrive 12:1700000000000-0"
))
@click.argument("names", metavar="[ID]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="All that there are now.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def redrive_set_aside(**given: Any) -> None:  # noqa: ANN401
    """Offer runs to workers again, by the ID that `list` gives or by session: they go on after their last final.

    Do so after an upgrade that mends what was wrong. One that fails again comes back to the list, after one more try in
    a process of its own. Exit status 1 if one of the IDs isn't there.
    """
    from stenolog.cli.quarantine import run_redrive  # noqa: PLC0415

    run_redrive(**given)


@set_aside.command("end", cls=Examples, epilog=(
    "stenolog set-aside end --all\n"
    "stenolog set-aside end 7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a"
))
@click.argument("names", metavar="[ID]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="All that there are now.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def end_set_aside(**given: Any) -> None:  # noqa: ANN401
    """End runs for good, as failed, by the ID that `list` gives or by session; their finals so far stay.

    Clients that wait are told, and of recorded files a BatchProcessingFailed goes out. Exit status 1 if one of the IDs
    isn't there.
    """
    from stenolog.cli.quarantine import run_end  # noqa: PLC0415

    run_end(**given)
