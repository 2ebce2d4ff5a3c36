"""`stenolog quarantine`."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.group()
def quarantine() -> None:
    """Sessions that can't be processed, or killed what processed them: list them, take them up again, end them."""


@quarantine.command("list", cls=Examples, epilog=(
    "stenolog quarantine list\n"
    "stenolog quarantine list --json | jq -r '.[].reason' | sort | uniq -c"
))
@options("data")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_quarantined(**given: Any) -> None:  # noqa: ANN401
    """List quarantined runs: when, which session and run, why, by which worker, and how often by now."""
    from stenolog.cli.quarantine import run_list  # noqa: PLC0415

    run_list(**given)


@quarantine.command("redrive", cls=Examples, epilog=(
    "stenolog quarantine redrive --all\n"
    "stenolog quarantine redrive 12:1700000000000-0"
))
@click.argument("names", metavar="[ID]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="All that there are now.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def redrive_quarantined(**given: Any) -> None:  # noqa: ANN401
    """Offer runs to workers again, by the ID that `list` gives or by session: they go on after their last final.

    Do so after an upgrade that mends what was wrong. One that fails again comes back to the list, after one more try in
    a process of its own. Exit status 1 if one of the IDs isn't there.
    """
    from stenolog.cli.quarantine import run_redrive  # noqa: PLC0415

    run_redrive(**given)


@quarantine.command("fail", cls=Examples, epilog=(
    "stenolog quarantine fail --all\n"
    "stenolog quarantine fail 7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a"
))
@click.argument("names", metavar="[ID]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="All that there are now.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def fail_quarantined(**given: Any) -> None:  # noqa: ANN401
    """End runs for good, as failed, by the ID that `list` gives or by session; their finals so far stay.

    Clients that wait are told, and of recorded files a BatchProcessingFailed goes out. Exit status 1 if one of the IDs
    isn't there.
    """
    from stenolog.cli.quarantine import run_fail  # noqa: PLC0415

    run_fail(**given)
