"""`stenolog sessions`: what Redis knows of the sessions."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from eventlog.keys import LIVE_RUN
from eventlog.listing import list_sessions
from eventlog.readmodels import SessionView
from stenolog.cli.errors import told
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("session", "state", "tenant", "opened", "age", "audio s", "lag s", "finals", "language", "engine", "ended")
_COLOURS = {"ACTIVE": "green", "CLOSING": "yellow", "CREATED": "cyan"}
_PIPED_WIDTH = 220  # without a terminal there is no width to fit into


def run(overrides: Mapping[str, Any], *, limit: int, as_json: bool, state: str | None, tenant: str | None) -> None:
    """Print the sessions, open ones first, as a table or as a JSON array."""
    with told():
        found = asyncio.run(_sessions(load(**overrides), limit, state and state.upper(), tenant))
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, no_color=True, width=_PIPED_WIDTH)
    console.print(_table(found))


async def _sessions(settings: Settings, limit: int, state: str | None, tenant: str | None) -> Sequence[SessionView]:
    async with connected(settings) as server:
        return (await list_sessions(server, state=state, tenant_id=tenant, limit=limit)).views


def _table(found: Sequence[SessionView]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for view in found:
        name = view.session_id if view.run == LIVE_RUN else f"{view.session_id} {view.run}"
        opened = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(view.opened_ms / 1000))
        numbers = (f"{view.audio_seconds:.1f}", f"{view.lag_seconds:.1f}", str(view.finals))
        table.add_row(
            name, view.state.lower(), view.tenant_id, opened, _age(view.age_s), *numbers, view.language, view.engine,
            view.reason or "", style=_COLOURS.get(view.state, "dim"),
        )  # fmt: skip
    return table


def _age(seconds: float) -> str:
    """As a clock would show it: ``0:05``, ``12:34``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
