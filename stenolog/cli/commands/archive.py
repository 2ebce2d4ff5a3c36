"""`stenolog archive`."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.group("archive")
def archive() -> None:
    """What is archived of sessions: list it, check it, erase it."""


@archive.command("list", cls=Examples, epilog=(
    "stenolog archive list --since 7d\n"
    "stenolog archive list --tenant acme --since 2026-01-01 --until 2026-02-01 --json | jq -r '.[].session_id'"
))
@click.argument("session_ids", metavar="[SESSION]...", nargs=-1)
@options("data")
@click.option("--tenant", metavar="TENANT", help="Only this tenant's.")
@click.option("--since", metavar="WHEN", help="Started then or later: a date and time, or an age such as 2h or 7d.")
@click.option("--until", metavar="WHEN", help="Started before that.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Most listed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_archive(**given: Any) -> None:  # noqa: ANN401
    """List archived sessions, day by day: whose, when, how long, how large; never what was said."""
    from stenolog.cli.archive import run_list  # noqa: PLC0415

    run_list(**given)


@archive.command("verify", cls=Examples, epilog=(
    "stenolog archive verify --since 1d\n"
    "stenolog archive verify $SESSION --json"
))
@click.argument("session_ids", metavar="[SESSION]...", nargs=-1)
@options("data")
@click.option("--tenant", metavar="TENANT", help="Only this tenant's.")
@click.option("--since", metavar="WHEN", help="Started then or later: a date and time, or an age such as 2h or 7d.")
@click.option("--until", metavar="WHEN", help="Started before that.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify_archive(**given: Any) -> None:  # noqa: ANN401
    """Read all files of archived sessions, and compare them with their checksums: exit status 1 if one differs."""
    from stenolog.cli.archive import run_verify  # noqa: PLC0415

    run_verify(**given)


@archive.command("erase", cls=Examples, epilog="stenolog archive erase $SESSION")
@click.argument("session_ids", metavar="SESSION...", nargs=-1, required=True)
@options("data")
def erase_archive(**given: Any) -> None:  # noqa: ANN401
    """Erase sessions from the archive, and what Redis may still have of them; replays of them end.

    DELETE of a session does this by itself; this is for those that Redis no longer knows. Exit status 1 if there was
    nothing of one of them.
    """
    from stenolog.cli.archive import run_erase  # noqa: PLC0415

    run_erase(**given)
