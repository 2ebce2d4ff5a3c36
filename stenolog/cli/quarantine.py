"""`stenolog quarantine`: sessions that can't be processed, or killed what processed them."""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from eventlog.log import Code
from eventlog.work.quarantine import Quarantine, QuarantinedRun, list_quarantined_runs
from stenolog.cli.errors import UNABLE, UserError, told
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("id", "quarantined", "session", "run", "times", "by", "reason")
_PIPED_WIDTH = 260  # without a terminal there is no width to fit into


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is printed."""

    id: str
    session_id: str
    run: str
    reason: str
    consumer: str
    queue: str
    times: int
    at_ms: int


def run_list(*, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Print what was set aside, the oldest first, as a table or as a JSON array."""
    with told():
        found = sorted(asyncio.run(_found(load(**overrides))), key=lambda one: one.at_ms)
    if as_json:
        print(msgspec.json.encode([_shown(one) for one in found]).decode())
        return
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, no_color=True, width=_PIPED_WIDTH)
    console.print(_table(found))


def run_redrive(*, names: Sequence[str], everything: bool, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Offer runs to workers again, and say what became of them."""
    _run("redriven", "offered to workers again", names, everything=everything, as_json=as_json, overrides=overrides)


def run_fail(*, names: Sequence[str], everything: bool, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401
    """End runs for good, and say what became of them."""
    _run("ended", "ended as failed", names, everything=everything, as_json=as_json, overrides=overrides)


def _run(
    verb: str, words: str, names: Sequence[str], *, everything: bool, as_json: bool, overrides: dict[str, Any]
) -> None:
    if bool(names) == everything:
        raise UserError("name the runs, by id or by session, or give --all", UNABLE)
    with told():
        codes, absent = asyncio.run(_done(load(**overrides), verb, names))
    counts = {verb: codes.count(Code.OK), "dropped": 0, "absent": absent + codes.count(Code.LOST)}
    counts["dropped"] = len(codes) + absent - counts[verb] - counts["absent"]
    print(msgspec.json.encode(counts).decode() if as_json else _told(counts, verb, words))
    if counts["absent"]:
        sys.exit(1)


def _told(counts: dict[str, int], verb: str, words: str) -> str:
    lines = [f"{counts[verb]} {words}"]
    if counts["dropped"]:
        lines.append(f"{counts['dropped']} taken off the list: gone, over, or on offer already")
    if counts["absent"]:
        lines.append(f"{counts['absent']} not there")
    return "\n".join(lines)


async def _found(settings: Settings) -> list[QuarantinedRun]:
    async with connected(settings) as server:
        return [one async for one in list_quarantined_runs(server)]


async def _done(settings: Settings, verb: str, names: Sequence[str]) -> tuple[list[Code], int]:
    """What became of each run that was named, of all if none was; and how many names there are nothing of."""
    async with connected(settings) as server:
        found = [one async for one in list_quarantined_runs(server)]
        known = {name for one in found for name in (one.id, one.keys.session_id)}
        chosen = [one for one in found if not names or one.id in names or one.keys.session_id in names]
        acts = Quarantine(server, session_ttl_s=settings.session_ttl_s)
        act = acts.redrive if verb == "redriven" else acts.fail
        return [await act(one) for one in chosen], len(set(names) - known)


def _shown(one: QuarantinedRun) -> Shown:
    return Shown(
        id=one.id, session_id=one.keys.session_id, run=one.keys.run, reason=one.reason, consumer=one.consumer,
        queue=one.queue, times=one.times, at_ms=one.at_ms,
    )  # fmt: skip


def _table(found: Sequence[QuarantinedRun]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for one in found:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at_ms / 1000))
        table.add_row(one.id, at, one.keys.session_id, one.keys.run, str(one.times), one.consumer, one.reason)
    return table
