"""`stenolog backup` and `stenolog restore`."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.command(cls=Examples, epilog=(
    "stenolog backup /backups/2026-11-22\n"
    "REDIS_URL=rediss://backup:secret@db:6379 stenolog backup /backups/tonight --json"
))
@click.argument("directory", metavar="DIR", type=click.Path())
@options("data")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def backup(**given: Any) -> None:  # noqa: ANN401
    """Write what Redis holds to DIR, which must not exist yet, while everything goes on.

    One file per master, each as of one moment. They hold what was said: DIR is for its owner alone.
    """
    from stenolog.cli.backup import run_backup  # noqa: PLC0415

    run_backup(**given)


@click.command(cls=Examples, epilog=(
    "stenolog restore /backups/2026-11-22                              into ./data, before `stenolog up`\n"
    "REDIS_URL=redis://new-db:6379 stenolog restore /backups/tonight"
))
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@options("data")
@click.option(
    "--server", "binary", metavar="PATH", type=click.Path(exists=True, dir_okay=False),
    help="Server that reads the backup's files.  [default: the bundled Valkey]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def restore(**given: Any) -> None:  # noqa: ANN401
    """Write the backup in DIR into a Redis that holds nothing of Stenolog yet, single or a cluster.

    Start the roles afterwards. What was said after the backup is gone; what has expired since stays so.
    """
    from stenolog.cli.backup import run_restore  # noqa: PLC0415

    run_restore(**given)
