"""`stenolog rebuild`: read models rebuilt from the facts."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eventlog.keys import READ_MODELS, SINKS
from eventlog.projection.rebuild import count_runs, drop_orphans, find_runs, read_dead_letter_ids, scan_runs
from eventlog.work.heartbeats import process_name
from projections.rebuilder import Rebuilder, Report, relax_garbage_collection
from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.output import print_json
from stenolog.errors import UNABLE, UserError
from stenolog.roles.projector import read_model
from stenolog.settings import Settings, load
from stenolog.wiring import connected

MAX_LINES = 20
"""Lines about single runs: more are noise, and `--json` has them all."""


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """The result in the form that is printed."""

    projection: str
    runs: int
    events: int
    seconds: float
    gone: int
    behind: int
    set_aside: int
    letters_settled: int
    strangers: int
    failed: list[tuple[str, str]]
    differing: list[tuple[str, str]] | None
    checksum_before: str | None
    checksum_after: str | None


@click.command(cls=ExampleCommand, epilog=(
    "stenolog rebuild lists\n"
    "stenolog rebuild sessions --verify --json | jq .differing\n"
    "stenolog rebuild feeds $SESSION"
))
@click.argument("projection", metavar="lists|feeds|sessions|status")
@click.argument("session_ids", metavar="[SESSION]...", nargs=-1)
@options("data")
@click.option("--verify", is_flag=True, help="Compare the old read models with the new ones.")
@options("json")
def rebuild(
    *, projection: str, session_ids: Sequence[str], verify: bool, as_json: bool, **overrides: Any  # noqa: ANN401 - settings have many types
) -> None:
    """Rebuild the read models of PROJECTION from the facts, of each SESSION or of all, while the deployment runs.

    Each run gets a shadow copy, which takes the old one's place at once; an interruption leaves the old one in place.
    Exit status 1 if something could not be rebuilt, or if with --verify a read model differed from the facts.
    """
    if projection not in READ_MODELS:
        raise UserError(_no_read_model(projection), UNABLE)
    relax_garbage_collection()
    started = time.monotonic()
    report, strangers = asyncio.run(_rebuild(load(**overrides), projection, session_ids, verify=verify))
    seconds = time.monotonic() - started
    found = Rebuilt(
        projection=projection, runs=report.runs, events=report.events, seconds=round(seconds, 3), gone=report.gone,
        behind=report.behind, set_aside=report.dead_lettered, letters_settled=report.dead_letters_settled,
        strangers=strangers, failed=report.failed, differing=report.differing if verify else None,
        checksum_before=_hexadecimal(report.checksum_before) if verify else None,
        checksum_after=_hexadecimal(report.checksum_after) if verify else None,
    )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        print(_summary(found))
    if report.failed or report.differing:
        sys.exit(1)


async def _rebuild(
    settings: Settings, projection: str, session_ids: Sequence[str], *, verify: bool
) -> tuple[Report, int]:
    async with connected(settings) as server:
        total = len(session_ids) or await count_runs(server)
        rebuilder = Rebuilder(
            read_model(projection, settings), server, consumer=process_name(), session_ttl_s=settings.session_ttl_s,
            verify=verify, is_complete=not session_ids, dead_letter_ids=await read_dead_letter_ids(server, projection),
        )  # fmt: skip
        runs = find_runs(server, session_ids) if session_ids else scan_runs(server)
        with _progress(projection, total) as on_progress:
            report = await rebuilder.run(runs, on_progress)
        is_complete_listing = projection == "sessions" and not session_ids
        return report, await drop_orphans(server) if is_complete_listing else 0


@contextmanager
def _progress(projection: str, total: int) -> Iterator[Callable[[Report], None]]:
    """Show a bar on standard error, if that is a terminal."""
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("rebuilding {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("runs"),
        TextColumn("{task.fields[rate]:,.0f} events/s"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task(projection, total=total, rate=0.0)
    started = time.monotonic()

    def on_progress(report: Report) -> None:
        rate = report.events / max(0.001, time.monotonic() - started)
        bar.update(task, completed=report.seen, total=max(total, report.seen), rate=rate)

    with bar:
        yield on_progress


def _summary(found: Rebuilt) -> str:
    rate = found.events / max(0.001, found.seconds)
    took = f"{found.seconds:.1f} s ({rate:,.0f} a second)"
    lines = [f"{found.projection}: {found.runs} runs with {found.events} events in {took}"]
    lines += [
        text for count, text in (
            (found.gone, f"{found.gone} runs expired or were erased meanwhile"),
            (found.behind, f"{found.behind} were behind the facts, or missing"),
            (found.set_aside, f"{found.set_aside} facts could not be applied; see `stenolog dead-letters list`"),
            (found.letters_settled, f"{found.letters_settled} old dead letters are settled"),
            (found.strangers, f"{found.strangers} listed runs do not exist any more, and were removed"),
        ) if count
    ]  # fmt: skip
    if found.differing is not None:
        lines += _first([f"differed from the facts: {member} {part}" for member, part in found.differing])
        lines.append(f"SHA-256 before {found.checksum_before}")
        lines.append(f"SHA-256 after  {found.checksum_after}")
    lines += _first([f"not rebuilt: {member}: {reason}" for member, reason in found.failed])
    return "\n".join(lines)


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], *([f"… and {more} more; see --json"] if more > 0 else [])]


def _hexadecimal(checksum: int) -> str:
    return f"{checksum % 2**256:064x}"


def _no_read_model(projection: str) -> str:
    if projection in SINKS:
        return f"{projection} is a sink and has nothing to rebuild; see `stenolog dead-letters redrive`"
    return f"no projection {projection} exists, only {', '.join(READ_MODELS)}"
