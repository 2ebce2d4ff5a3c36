"""`stenolog doctor`: is a running deployment well?"""

import asyncio
import sys

import msgspec
from rich.console import Console
from rich.text import Text

from stenolog.cli.errors import FAILED
from stenolog.operations.doctor import Check, Doctor

_NAME_WIDTH = 22  # of the longest name, `projection sessions`, and a gap


def run(*, url: str, token: str, as_json: bool) -> None:
    """Examine the deployment behind `url`, a line per check; exits with status 1 if anything is wrong."""
    checks = asyncio.run(_examined(Doctor(url, token), None if as_json else Console(highlight=False)))
    well = all(check.ok for check in checks)
    if as_json:
        print(msgspec.json.encode({"url": url, "ok": well, "checks": checks}).decode())
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
