"""`stenolog replay`: new runs over old audio."""

import asyncio
import os
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click
import uvloop

from eventlog.log import Code
from eventlog.redis.server import Server
from stenolog import logs, wiring
from stenolog.cli import INTERRUPTED
from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.replay_progress import ReplayProgress
from stenolog.errors import FAILED, UNABLE, UserError
from stenolog.local.supervisor import Role, Supervisor
from stenolog.operations.replay.archive_source import ArchiveSource
from stenolog.operations.replay.live_priority import LivePriority
from stenolog.operations.replay.log_source import LogSource
from stenolog.operations.replay.replay import REASONS, UNKNOWN_SESSION, Outcome, Replay, ReplayPlan, Retry
from stenolog.operations.replay.run_overrides import RunOverrides, checked_name
from stenolog.operations.replay.sources import Replayable, Selection, Source, find_all
from stenolog.operations.replay.time_ranges import parse_range
from stenolog.roles.runner import stopped_by_signals
from stenolog.settings import Settings, load


class Job(NamedTuple):
    """The replay that the command line describes."""

    selection: Selection
    plan: ReplayPlan
    workers: int
    dry_run: bool
    wait: bool


@click.command(cls=ExampleCommand, epilog=(
    "stenolog replay $SESSION --engine whisper --model small.en\n"
    "stenolog replay --tenant acme --since 2h --set hangover_ms=500 --name pauses-500\n"
    "stenolog replay --all --dry-run\n"
    "stenolog replay --all --name nightly --json | jq -r 'select(.status==\"failed\")'"
))
@click.argument("session_ids", metavar="[SESSION]...", nargs=-1)
@options("data", "engine")
@click.option("--model", metavar="NAME", help="Name or path of the engine's model.")
@click.option("--language", metavar="CODE", help="Language spoken.  [default: each session's own]")
@click.option("--set", "pairs", metavar="NAME=VALUE", multiple=True, help="Another setting than the session's own, "
              "such as hangover_ms=500; may be given several times.")
@options("tenant", "since", "until")
@click.option("--all", "everything", is_flag=True, help="All sessions.")
@click.option("--name", metavar="RUN", help="Name of the run; the same again continues it.  [default: a new one]")
@click.option("--workers", type=click.IntRange(0, 64), help="Worker processes to start; 0 leaves it to `stenolog "
              "worker --replays` running elsewhere.  [default: one for each core]")
@click.option("--dry-run", is_flag=True, help="Only list the sessions that would be replayed.")
@click.option("--no-wait", is_flag=True, help="Only start the runs; workers elsewhere process them.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each session, and one for all.")
def replay(
    *, as_json: bool, data_dir: str | None, engine: str | None, model: str | None, **given: Any  # noqa: ANN401 - options have many types
) -> None:
    """Process recorded sessions again, as a new run beside the old one: faster than real time.

    Each run keeps its session's settings but those named here; the engine is that of this command. Progress goes to
    standard error, the run's name to standard output. Ctrl-C stops in order, and the same --name continues. Exit status
    1 if some sessions could not be replayed; each is named with the reason.
    """
    settings = load(data_dir=data_dir, engine=engine, model=model)
    try:
        job = _job(settings, **given)
    except ValueError as error:
        raise UserError(str(error), UNABLE) from error
    logs.configure("replay", "warning")
    progress = ReplayProgress(job.plan.run, as_json=as_json)
    if status := uvloop.run(_run(settings, job, progress)):
        sys.exit(status)


def sources(server: Server, settings: Settings) -> list[Source]:
    """Where audio is looked for, in this order."""
    place = wiring.archive_place(settings)
    return [LogSource(server), *([ArchiveSource(place)] if place else [])]


def _job(
    settings: Settings, *, language: str | None, pairs: Sequence[str], name: str | None, workers: int | None,
    dry_run: bool, no_wait: bool, **selected: Any,  # noqa: ANN401 - options have many types
) -> Job:  # fmt: skip
    """Check the options that belong together.

    Raises:
        ValueError: if they contradict each other.
    """
    selection = _selection(**selected)
    queue = wiring.worker_settings(settings).engine
    overrides = RunOverrides.parse(pairs, engine=queue, language=language)
    plan = ReplayPlan(new_name() if name is None else checked_name(name), overrides, queue)
    if no_wait and workers:
        raise ValueError("--no-wait leaves the runs to workers elsewhere; it doesn't go with --workers")
    count = 0 if no_wait else wiring.cores() if workers is None else workers
    return Job(selection, plan, count, dry_run, not no_wait)


def _selection(
    *, session_ids: Sequence[str], tenant: str | None, since: str | None, until: str | None, everything: bool
) -> Selection:
    bounds = [bound for bound in (tenant, since, until) if bound is not None]
    if bool(session_ids) + bool(bounds) + everything != 1:
        raise ValueError("say which sessions: by their ids, by --tenant, --since and --until, or --all of them")
    return Selection(
        tuple(dict.fromkeys(session_ids)), tenant, *parse_range(since, until, time.time_ns() // 1_000_000)
    )


def new_name() -> str:
    """A unique name, with the time at which the run began."""
    return time.strftime("replay-%Y%m%d-%H%M-") + secrets.token_hex(2)


async def _run(settings: Settings, job: Job, progress: ReplayProgress) -> int:
    """Replay, until done or interrupted; returns the exit status."""
    stop = asyncio.Event()
    async with wiring.connected(settings) as server:
        with stopped_by_signals(stop):
            task = asyncio.create_task(_replay(settings, job, progress, server))
            stopped = asyncio.create_task(stop.wait())
            with progress:
                await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    is_interrupted = task.cancelled()
    if not is_interrupted:
        task.result()
    progress.summary(is_interrupted=is_interrupted, next_command=_next_command(job) if is_interrupted else "")
    return INTERRUPTED if is_interrupted else FAILED if progress.failed else 0


async def _replay(settings: Settings, job: Job, progress: ReplayProgress, server: Server) -> None:
    retry = Retry(progress.note)
    found = await retry(lambda: find_all(sources(server, settings), job.selection))
    unknown = set(job.selection.session_ids) - {one.session_id for one in found}
    for session_id in sorted(unknown):
        progress.outcome(Outcome(session_id, "failed", UNKNOWN_SESSION))
    if job.dry_run:
        progress.plan([(one, _obstacle(job, one)) for one in found])
        return
    if not found and not unknown:
        progress.note("no such session exists")
    supervisor = replay_workers(settings, job.workers)
    priority = LivePriority(server, settings.replay_yield_s)
    replay = Replay(
        server, job.plan, session_ttl_s=settings.session_ttl_s, retry=retry, on_outcome=progress.outcome,
        on_pace=lambda pace: progress.pace(pace, is_paused=not priority.open.is_set()),
    )  # fmt: skip
    try:
        await priority.start()
        await _until_unable(replay.run(found, begin=supervisor.start, wait=job.wait), supervisor.failed)
    finally:
        await priority.stop()
        # Each worker hands its runs over, so that the next one needn't wait for a lease.
        await supervisor.stop()


def replay_workers(settings: Settings, count: int, environment: Mapping[str, str] = os.environ) -> Supervisor:
    """The workers of this command, to be started: processes that end with this one, however that ends.

    They log warnings alone, unless the environment asks for more.
    """
    arguments = (
        "worker", "--replays", "--data", settings.data_dir, "--engine", settings.engine, "--model", settings.model,
        "--metrics-port", "0",  # several would want the same
    )  # fmt: skip
    return Supervisor([Role("replayer", arguments)] * count, {"STENOLOG_LOG_LEVEL": "warning", **environment})


async def _until_unable(work: Any, failed: asyncio.Future[str]) -> None:  # noqa: ANN401 - a coroutine
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise UserError("the workers can't run with these settings; their message is above", UNABLE)
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _obstacle(job: Job, session: Replayable) -> str:
    """Why a session can't be replayed; empty if it can."""
    if session.code != Code.OK:
        return REASONS[session.code]
    try:
        job.plan.overrides.over(session.start)
    except ValueError as error:
        return str(error)
    return ""


def _next_command(job: Job) -> str:
    """The command that continues the run, as it can be typed."""
    words = ["stenolog", *sys.argv[1:]]
    if "--name" not in words and not any(word.startswith("--name=") for word in words):
        words += ["--name", job.plan.run]
    return shlex.join(words)
