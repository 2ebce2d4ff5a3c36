"""`stenolog worker`, and `stenolog quarantine-trial`, which a worker starts."""

from typing import Any

import click

from stenolog.cli.options import ExampleCommand, options
from stenolog.roles import runner
from stenolog.roles.worker import run_quarantine_trial, serve_replayer, serve_worker
from stenolog.settings import load


@click.command(cls=ExampleCommand, epilog=(
    "REDIS_URL=redis://db:6379 stenolog worker --engine whisper\n"
    "REDIS_URL=redis://db:6379 stenolog worker --replays --engine whisper"
))
@options("data", "engine", "metrics", "follow")
@click.option("--model", metavar="NAME", help="Name or path of the engine's model.")
@click.option("--replays", is_flag=True, help="Work on replays for this engine and model; clients' work goes first.")
def worker(*, follow_parent: bool, replays: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Run one worker: it claims sessions, segments, recognises and commits.

    With --replays it uses one core, niced, and works on the runs that `stenolog replay` starts; run one for each core.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    role, serve = ("replayer", serve_replayer) if replays else ("worker", serve_worker)
    runner.run(role, load(**overrides), serve, follow_parent=follow_parent)


@click.command("quarantine-trial", hidden=True)
@click.argument("claim", nargs=6)
@options("data", "engine")
@click.option("--model", hidden=True)
def quarantine_trial(*, claim: tuple[str, ...], **overrides: Any) -> None:  # noqa: ANN401
    """Process one suspected session in this process alone; exit status 0 reports that it was processed."""
    runner.run("quarantine-trial", load(**overrides), lambda found, _: run_quarantine_trial(found, claim))
