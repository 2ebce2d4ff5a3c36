"""`stenolog sessions`: what Redis knows of the sessions."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from eventlog.keys import LIVE_RUN
from eventlog.readmodels import SessionView, list_sessions
from stenolog.cli.errors import told
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("session", "state", "opened", "audio s", "lag s", "finals", "language", "engine")
_PIPED_WIDTH = 160  # without a terminal there is no width to fit into


def run(overrides: Mapping[str, Any], *, limit: int, as_json: bool) -> None:
    """Print the sessions, open ones first, as a table or as a JSON array."""
    with told():
        found = asyncio.run(_sessions(load(**overrides), limit))
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    console.print(_table(found))


async def _sessions(settings: Settings, limit: int) -> Sequence[SessionView]:
    async with connected(settings) as server:
        return await list_sessions(server, limit=limit)


def _table(found: Sequence[SessionView]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for view in found:
        name = view.session_id if view.run == LIVE_RUN else f"{view.session_id} {view.run}"
        opened = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(view.opened_ms / 1000))
        numbers = (f"{view.audio_seconds:.1f}", f"{view.lag_seconds:.1f}", str(view.finals))
        table.add_row(name, view.state.lower(), opened, *numbers, view.language, view.engine)
    return table
