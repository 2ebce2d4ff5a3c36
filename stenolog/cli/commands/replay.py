"""`stenolog replay`."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.command(cls=Examples, epilog=(
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
@click.option("--tenant", metavar="TENANT", help="Only this tenant's sessions.")
@click.option("--since", metavar="WHEN", help="Only those started then or later: an age (2h, 3d) or ISO 8601.")
@click.option("--until", metavar="WHEN", help="Only those started before.")
@click.option("--all", "everything", is_flag=True, help="All sessions that there are.")
@click.option("--name", metavar="RUN", help="Name of the run; the same again goes on with it.  [default: a new one]")
@click.option("--workers", type=click.IntRange(0, 64), help="Worker processes to start; 0 leaves it to `stenolog "
              "worker --replays` running elsewhere.  [default: one for each core]")
@click.option("--dry-run", is_flag=True, help="Only say which sessions it would be.")
@click.option("--no-wait", is_flag=True, help="Only start the runs; workers elsewhere do them.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each session, and one for all.")
def replay(**given: Any) -> None:  # noqa: ANN401
    """Process recorded sessions once more, as a new run beside the old one: faster than real time.

    Each run keeps its session's settings but those named here; the engine is the one that is set for this command.
    Progress goes to standard error, the run's name to standard output. Ctrl-C stops in order, and the same --name goes
    on. Exit status 1 if some sessions could not be replayed; they are named with the reason.
    """
    from stenolog.cli.replay import run  # noqa: PLC0415

    run(**given)
