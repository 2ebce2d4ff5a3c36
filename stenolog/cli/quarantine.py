"""`stenolog quarantine`: runs that can't be processed, or killed workers."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.table import Table

from eventlog.log import Code
from eventlog.work.quarantine import Quarantine, QuarantinedRun, list_quarantined_runs
from stenolog.cli.options import ExampleCommand, ExampleGroup, options
from stenolog.cli.output import local_time, output_console, print_json
from stenolog.errors import UNABLE, UserError
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("id", "quarantined", "session", "run", "times", "by", "reason")


class RunInQuarantine(msgspec.Struct, frozen=True, kw_only=True):
    """A quarantined run in the form that is printed."""

    id: str
    session_id: str
    run: str
    reason: str
    consumer: str
    queue: str
    times: int
    at_ms: int


@click.group(cls=ExampleGroup, epilog="stenolog quarantine redrive --all")
def quarantine() -> None:
    """Runs that can't be processed, or killed workers: list them, offer them to workers again, end them."""


@quarantine.command("list", cls=ExampleCommand, epilog=(
    "stenolog quarantine list\n"
    "stenolog quarantine list --json | jq -r '.[].reason' | sort | uniq -c"
))
@options("data", "json")
def list_quarantined(*, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """List quarantined runs, the oldest first: since when, which session and run, why, by which worker, how often."""
    found = sorted(asyncio.run(_find_all(load(**overrides))), key=lambda one: one.at_ms)
    if as_json:
        print_json([_view(one) for one in found])
    else:
        output_console().print(_table(found))


@quarantine.command("redrive", cls=ExampleCommand, epilog=(
    "stenolog quarantine redrive --all\n"
    "stenolog quarantine redrive 12:1700000000000-0"
))
@click.argument("names", metavar="[ID]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="All that exist now.")
@options("json")
def redrive_quarantined(**given: Any) -> None:  # noqa: ANN401
    """Offer runs to workers again, by the ID that `list` gives or by session: they continue after their last final.

    Do so after an upgrade that fixes the cause. One that fails again comes back to the list, after one more trial in a
    process of its own. Exit status 1 if one of the IDs does not exist.
    """
    _act("redriven", "offered to workers again", **given)


@quarantine.command("fail", cls=ExampleCommand, epilog=(
    "stenolog quarantine fail --all\n"
    "stenolog quarantine fail 7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a"
))
@click.argument("names", metavar="[ID]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="All that exist now.")
@options("json")
def fail_quarantined(**given: Any) -> None:  # noqa: ANN401
    """End runs permanently, as failed, by the ID that `list` gives or by session; their finals so far stay.

    Clients that wait are notified, and a BatchProcessingFailed is forwarded for recorded files. Exit status 1 if one of
    the IDs does not exist.
    """
    _act("ended", "ended as failed", **given)


def _act(
    verb: str, words: str, names: Sequence[str], *, everything: bool, as_json: bool, **overrides: Any  # noqa: ANN401
) -> None:
    if bool(names) == everything:
        raise UserError("name the runs, by id or by session, or give --all", UNABLE)
    codes, absent = asyncio.run(_act_on(load(**overrides), verb, names))
    counts = {verb: codes.count(Code.OK), "dropped": 0, "absent": absent + codes.count(Code.LOST)}
    counts["dropped"] = len(codes) + absent - counts[verb] - counts["absent"]
    if as_json:
        print_json(counts)
    else:
        print(_summary(counts, verb, words))
    if counts["absent"]:
        sys.exit(1)


def _summary(counts: dict[str, int], verb: str, words: str) -> str:
    lines = [f"{counts[verb]} {words}"]
    if counts["dropped"]:
        lines.append(f"{counts['dropped']} taken off the list: gone, over, or on offer already")
    if counts["absent"]:
        lines.append(f"{counts['absent']} not there")
    return "\n".join(lines)


async def _find_all(settings: Settings) -> list[QuarantinedRun]:
    async with connected(settings) as server:
        return [one async for one in list_quarantined_runs(server)]


async def _act_on(settings: Settings, verb: str, names: Sequence[str]) -> tuple[list[Code], int]:
    """The outcome of each named run, of all if none is named; and how many names match no run."""
    async with connected(settings) as server:
        found = [one async for one in list_quarantined_runs(server)]
        known = {name for one in found for name in (one.id, one.keys.session_id)}
        chosen = [one for one in found if not names or one.id in names or one.keys.session_id in names]
        store = Quarantine(server, session_ttl_s=settings.session_ttl_s)
        act = store.redrive if verb == "redriven" else store.fail
        return [await act(one) for one in chosen], len(set(names) - known)


def _view(run: QuarantinedRun) -> RunInQuarantine:
    return RunInQuarantine(
        id=run.id, session_id=run.keys.session_id, run=run.keys.run, reason=run.reason, consumer=run.consumer,
        queue=run.queue, times=run.times, at_ms=run.at_ms,
    )  # fmt: skip


def _table(found: Sequence[QuarantinedRun]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for one in found:
        table.add_row(
            one.id, local_time(one.at_ms), one.keys.session_id, one.keys.run, str(one.times), one.consumer, one.reason
        )
    return table
