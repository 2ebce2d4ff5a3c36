"""`stenolog doctor`: checks a running deployment."""

import asyncio
import sys

import click
from rich.console import Console
from rich.text import Text

from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.output import print_json
from stenolog.errors import FAILED
from stenolog.operations.doctor import Check, Doctor

_NAME_WIDTH = 22  # of the longest name, `projection sessions`, and a gap


@click.command(cls=ExampleCommand, epilog=(
    "stenolog doctor                    the deployment on this machine\n"
    "STENOLOG_TOKEN=$(stenolog token ...) stenolog doctor --url https://speech.example\n"
    "stenolog doctor --json | jq '.checks[] | select(.ok | not)'"
))
@options("url", "token", "json")
def doctor(*, url: str, token: str, as_json: bool) -> None:
    """Check a running deployment from outside, a line per check: exit status 0 if all is well, 1 if not.

    It checks every role and Redis, transcribes a short recording as a session of its own, deletes it again, and reports
    errors that the roles logged in the last 5 minutes. With authentication the token needs the scopes ingest and read.
    """
    checks = asyncio.run(_examined(Doctor(url, token), None if as_json else Console(highlight=False)))
    well = all(check.ok for check in checks)
    if as_json:
        print_json({"url": url, "ok": well, "checks": checks})
    if not well:
        sys.exit(FAILED)


async def _examined(doctor: Doctor, console: Console | None) -> list[Check]:
    checks = []
    async for check in doctor.examine():
        checks.append(check)
        if console is not None:
            console.print(_line(check), soft_wrap=True)
    return checks


def _line(check: Check) -> Text:
    mark = ("✓", "green") if check.ok else ("✗", "bold red")
    line = Text.assemble(mark, f" {check.name:<{_NAME_WIDTH}}{check.detail}")
    return line if check.ok else line.append(f"\n  {'':<{_NAME_WIDTH}}→ {check.remedy}", "yellow")
