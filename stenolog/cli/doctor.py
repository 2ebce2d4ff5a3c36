"""`stenolog doctor`: checks a running deployment."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.output import print_json
from stenolog.errors import FAILED
from stenolog.operations.doctor import Check, Doctor

if TYPE_CHECKING:
    from stenolog.operations.engine_check import EngineReport

_NAME_WIDTH = 22  # of the longest name, `projection sessions`, and a gap


@click.command(cls=ExampleCommand, epilog=(
    "stenolog doctor                    the deployment on this machine\n"
    "STENOLOG_TOKEN=$(stenolog token ...) stenolog doctor --url https://speech.example\n"
    "stenolog doctor --json | jq '.checks[] | select(.ok | not)'\n"
    "STENOLOG_WHISPER_DEVICE=cuda stenolog doctor --local     this machine's engine, before a worker needs it"
))
@options("url", "token", "json")
@click.option("--local", is_flag=True, help="Examine this machine's engine instead, as a worker would load it.")
def doctor(*, url: str, token: str, as_json: bool, local: bool) -> None:
    """Check a running deployment from outside, a line per check: exit status 0 if all is well, 1 if not.

    It checks every role and Redis, transcribes a short recording as a session of its own, deletes it again, and reports
    errors that the roles logged in the last 5 minutes. With authentication the token needs the scopes ingest and read.

    With --local it needs no deployment: it loads the engine and model that the settings name here, and reports their
    device, languages and speed on a bundled sentence.
    """
    console = None if as_json else Console(highlight=False)
    if local:
        checks, report = _examine_here(console)
        about: dict[str, object] = {"engine": report}
    else:
        checks, about = asyncio.run(_examined(Doctor(url, token), console)), {"url": url}
    well = all(check.ok for check in checks)
    if as_json:
        print_json({**about, "ok": well, "checks": checks})
    if not well:
        sys.exit(FAILED)


def _examine_here(console: Console | None) -> tuple[list[Check], "EngineReport | None"]:
    from stenolog.operations.engine_check import examine_engine  # noqa: PLC0415 - recognisers, which a client may lack
    from stenolog.settings import load  # noqa: PLC0415

    checks, report = examine_engine(load())
    if console is not None:
        for check in checks:
            console.print(_line(check), soft_wrap=True)
    return checks, report


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
