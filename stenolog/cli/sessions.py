"""`stenolog sessions`: what Redis knows of the sessions."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventlog.readmodel.listings import list_sessions
from eventlog.readmodel.runs import RunView, merge_view, read_runs
from eventlog.readmodel.views import SessionView
from stenolog.cli.errors import told
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("session", "state", "tenant", "opened", "age", "audio s", "lag s", "finals", "language", "engine", "ended")
_COLOURS = {"ACTIVE": "green", "CLOSING": "yellow", "CREATED": "cyan"}
_PIPED_WIDTH = 220  # without a terminal there is no width to fit into


class WithRuns(SessionView, frozen=True, kw_only=True):
    """A session with its runs."""

    runs: list[RunView]


def run(
    overrides: Mapping[str, Any], *, limit: int, as_json: bool, state: str | None, tenant: str | None, runs: bool
) -> None:
    """Print the sessions, open ones first, as a table or as a JSON array; each with its runs if these are wanted."""
    with told():
        found = asyncio.run(_sessions(load(**overrides), limit, state and state.upper(), tenant, with_runs=runs))
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, no_color=True, width=_PIPED_WIDTH)
    console.print(_table(found))


async def _sessions(
    settings: Settings, limit: int, state: str | None, tenant: str | None, *, with_runs: bool
) -> Sequence[SessionView]:
    async with connected(settings) as server:
        views = (await list_sessions(server, state=state, tenant_id=tenant, limit=limit)).views
        if not with_runs:
            return views
        runs = await read_runs(server, [server.keys.of(view.session_id) for view in views])
        return [
            WithRuns(**msgspec.structs.asdict(view), runs=merge_view(of_session, view))
            for view, of_session in zip(views, runs, strict=True)
        ]


def _table(found: Sequence[SessionView]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for view in found:
        numbers = (f"{view.audio_seconds:.1f}", f"{view.lag_seconds:.1f}", str(view.finals))
        table.add_row(
            view.session_id, view.state.lower(), view.tenant_id, _time(view.opened_ms), _age(view.age_s), *numbers,
            view.language, view.engine, view.reason or "", style=_COLOURS.get(view.state, "dim"),
        )  # fmt: skip
        for one in view.runs if isinstance(view, WithRuns) else ():
            table.add_row(
                Text(f"  {'*' if one.promoted else ' '} {one.run}"), one.state.lower(), "", _time(one.opened_ms), "",
                f"{one.audio_seconds:.1f}", "", str(one.finals), one.language, one.engine, one.reason or "",
                style="bold" if one.promoted else "dim",
            )  # fmt: skip
    return table


def _time(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def _age(seconds: float) -> str:
    """As a clock would show it: ``0:05``, ``12:34``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
