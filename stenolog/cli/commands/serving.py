"""Commands that serve: everything at once, or one role each."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.command(cls=Examples, epilog=(
    "stenolog up                        everything, with an embedded Valkey under ./data\n"
    "stenolog up --demo --once          show it on a recording, then stop\n"
    "REDIS_URL=redis://db:6379 stenolog up --workers 4"
))
@options("host", "port", "data", "engine", "metrics")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--edges", type=click.IntRange(1, 64), default=1, show_default=True, help="Edge processes on one port.")
@click.option("--demo", is_flag=True, help="Stream the bundled recording and show its captions.")
@click.option("--once", is_flag=True, help="With --demo: stop after the recording.")
def up(*, workers: int, edges: int, demo: bool, once: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Start everything in one command: Redis (unless REDIS_URL is set), edge, workers, projections.

    Each role is a process of its own, started again if it dies. Ctrl-C ends all of them in order.
    """
    from stenolog.cli.up import run  # noqa: PLC0415 - so that `stenolog --help` is instant

    if once and not demo:
        raise click.UsageError("--once goes with --demo")
    run(overrides, workers=workers, edges=edges, demo=demo, once=once)


@click.command(cls=Examples, epilog="REDIS_URL=redis://db:6379 stenolog edge --port 8001")
@options("host", "port", "data", "engine", "metrics", "follow")
@click.option("--descriptor", type=int, hidden=True, help="A listening socket that was inherited.")
def edge(*, descriptor: int | None, follow_parent: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Run one edge: WebSockets and HTTP in, captions out.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    from stenolog.cli.roles import run_edge  # noqa: PLC0415

    run_edge(overrides, descriptor=descriptor, follow_parent=follow_parent)


@click.command(cls=Examples, epilog=(
    "REDIS_URL=redis://db:6379 stenolog worker --engine whisper\n"
    "REDIS_URL=redis://db:6379 stenolog worker --replays --engine whisper"
))
@options("data", "engine", "metrics", "follow")
@click.option("--model", metavar="NAME", help="Name or path of the engine's model.")
@click.option("--replays", is_flag=True, help="Work on replays for this engine and model, clients' work going first.")
def worker(*, follow_parent: bool, replays: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Run one worker: it claims sessions, segments, recognises and commits.

    With --replays it uses one core, niced, and works on what `stenolog replay` starts; run one for each core.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    from stenolog.cli.roles import run_worker  # noqa: PLC0415

    run_worker(overrides, replays=replays, follow_parent=follow_parent)


@click.command("quarantine-trial", hidden=True)
@click.argument("claim", nargs=6)
@options("data", "engine")
@click.option("--model", hidden=True)
def quarantine_trial(*, claim: tuple[str, ...], **overrides: Any) -> None:  # noqa: ANN401
    """Process one run that kept killing workers, in this process alone; a worker starts it."""
    from stenolog.cli.roles import run_quarantine_trial  # noqa: PLC0415

    run_quarantine_trial(overrides, claim)


@click.command(cls=Examples, epilog="stenolog projector\nREDIS_URL=redis://db:6379 stenolog projector lists feeds")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@options("data", "metrics", "follow")
def projector(*, names: tuple[str, ...], follow_parent: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Run projections, those of STENOLOG_PROJECTIONS unless named.

    lists, feeds, sessions and status are what clients read; eventbridge, kafka and webhooks tell others; archive
    keeps sessions for good.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    from stenolog.cli.roles import run_projector  # noqa: PLC0415

    run_projector({**overrides, "projections": names or None}, follow_parent=follow_parent)
