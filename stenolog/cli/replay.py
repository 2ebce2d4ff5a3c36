"""`stenolog replay`: new runs over old audio."""

import asyncio
import secrets
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import uvloop

from eventlog.log import Code
from eventlog.redis.server import Server
from stenolog import logs, wiring
from stenolog.cli.errors import FAILED, UNABLE, UserError, told
from stenolog.cli.replay_board import Board
from stenolog.operations.replay import replay_workers
from stenolog.operations.replay.archive_source import ArchiveSource
from stenolog.operations.replay.live_priority import LivePriority
from stenolog.operations.replay.log_source import LogSource
from stenolog.operations.replay.replay import REASONS, UNKNOWN_SESSION, Order, Outcome, Replay
from stenolog.operations.replay.retry import Retry
from stenolog.operations.replay.run_overrides import RunOverrides, checked_name
from stenolog.operations.replay.sources import Replayable, Selection, Source, find_all
from stenolog.operations.replay.time_ranges import moment_ms
from stenolog.roles.runner import stopped_by_signals
from stenolog.settings import Settings, load

INTERRUPTED = 130


class Wanted(NamedTuple):
    """What the command line says."""

    selection: Selection
    order: Order
    workers: int
    dry_run: bool
    wait: bool


def run(
    *, session_ids: Sequence[str], tenant: str | None, since: str | None, until: str | None, everything: bool,
    as_json: bool, **given: Any,  # noqa: ANN401 - options have many types
) -> None:  # fmt: skip
    """Replay the sessions, and exit by what became of them."""
    with told():
        overrides = {name: given.pop(name) for name in ("data_dir", "engine", "model")}
        settings = load(**overrides)
        try:
            selection = _selection(session_ids, tenant, since, until, everything=everything)
            wanted = _wanted(settings, selection, **given)
        except ValueError as error:
            raise UserError(str(error), UNABLE) from error
        logs.configure("replay", "warning")
        board = Board(wanted.order.run, as_json=as_json)
        status = uvloop.run(_replayed(settings, wanted, board))
    if status:
        sys.exit(status)


def sources(server: Server, settings: Settings) -> list[Source]:
    """Where audio is looked for, in this order."""
    place = wiring.archive_place(settings)
    return [LogSource(server), *([ArchiveSource(place)] if place else [])]


def _selection(
    session_ids: Sequence[str], tenant: str | None, since: str | None, until: str | None, *, everything: bool
) -> Selection:
    bounds = [bound for bound in (tenant, since, until) if bound is not None]
    if bool(session_ids) + bool(bounds) + everything != 1:
        raise ValueError("say which sessions: by their ids, by --tenant, --since and --until, or --all of them")
    now_ms = time.time_ns() // 1_000_000
    since_ms, until_ms = (None if text is None else moment_ms(text, now_ms) for text in (since, until))
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise ValueError("--since is not before --until: that is no time at all")
    return Selection(tuple(dict.fromkeys(session_ids)), tenant, since_ms, until_ms)


def _wanted(
    settings: Settings, selection: Selection, *, language: str | None, pairs: Sequence[str], name: str | None,
    workers: int | None, dry_run: bool, no_wait: bool,
) -> Wanted:  # fmt: skip
    queue = wiring.worker_settings(settings).engine
    changes = RunOverrides.parse(pairs, engine=queue, language=language)
    order = Order(new_name() if name is None else checked_name(name), changes, queue)
    if no_wait and workers:
        raise ValueError("--no-wait leaves the runs to workers elsewhere; it doesn't go with --workers")
    count = 0 if no_wait else wiring.cores() if workers is None else workers
    return Wanted(selection, order, count, dry_run, not no_wait)


def new_name() -> str:
    """A name that says when the run was begun, and that no other has."""
    return time.strftime("replay-%Y%m%d-%H%M-") + secrets.token_hex(2)


async def _replayed(settings: Settings, wanted: Wanted, board: Board) -> int:
    """Do it; the exit status."""
    stop = asyncio.Event()
    async with wiring.connected(settings) as server:
        with stopped_by_signals(stop):
            task = asyncio.create_task(_done(settings, wanted, board, server))
            stopped = asyncio.create_task(stop.wait())
            with board:
                await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    is_interrupted = task.cancelled()
    if not is_interrupted:
        task.result()
    board.summary(is_interrupted=is_interrupted, go_on=_go_on(wanted) if is_interrupted else "")
    return INTERRUPTED if is_interrupted else FAILED if board.failed else 0


async def _done(settings: Settings, wanted: Wanted, board: Board, server: Server) -> None:
    patience = Retry(board.say)
    found = await patience(lambda: find_all(sources(server, settings), wanted.selection))
    unknown = set(wanted.selection.session_ids) - {one.session_id for one in found}
    for session_id in sorted(unknown):
        board.outcome(Outcome(session_id, "failed", UNKNOWN_SESSION))
    if wanted.dry_run:
        board.plan([_planned(wanted, one) for one in found])
        return
    if not found and not unknown:
        board.say("there is no such session")
    supervisor = replay_workers.supervisor(settings, wanted.workers)
    gate = LivePriority(server, settings.replay_yield_s)
    looking = asyncio.create_task(gate.run())
    replay = Replay(
        server, wanted.order, session_ttl_s=settings.session_ttl_s, patience=patience, on_outcome=board.outcome,
        on_pace=lambda pace: board.pace(pace, is_held=not gate.open.is_set()),
    )  # fmt: skip
    try:
        await _until_unable(replay.run(found, begin=supervisor.start, wait=wanted.wait), supervisor.failed)
    finally:
        looking.cancel()
        # Each hands over what it has, so that whoever goes on needn't wait for a lease.
        await supervisor.stop()


async def _until_unable(work: Any, failed: asyncio.Future[str]) -> None:  # noqa: ANN401 - a coroutine
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise UserError("the workers can't run as they are set; their message is above", UNABLE)
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _planned(wanted: Wanted, one: Replayable) -> tuple[Replayable, str]:
    """A session and why it can't be replayed, if so."""
    if one.code != Code.OK:
        return one, REASONS[one.code]
    try:
        wanted.order.changes.over(one.start)
    except ValueError as error:
        return one, str(error)
    return one, ""


def _go_on(wanted: Wanted) -> str:
    """The command that goes on with the run, as it can be typed."""
    words = ["stenolog", *sys.argv[1:]]
    if "--name" not in words and not any(word.startswith("--name=") for word in words):
        words += ["--name", wanted.order.run]
    return shlex.join(words)
