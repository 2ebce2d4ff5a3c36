"""`stenolog backup` and `stenolog restore`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from stenolog import __version__
from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.output import local_time, print_json
from stenolog.local.embedded import EmbeddedServer, binary_path
from stenolog.operations.backup import checked, take
from stenolog.operations.backup import restore as restore_backup
from stenolog.settings import Settings, load
from stenolog.wiring import find_redis, redis_tls


@click.command(cls=ExampleCommand, epilog=(
    "stenolog backup /backups/2026-11-22\n"
    "REDIS_URL=rediss://backup:secret@db:6379 stenolog backup /backups/tonight --json"
))
@click.argument("directory", metavar="DIR", type=click.Path())
@options("data", "json")
def backup(*, directory: str, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Write the content of Redis to DIR, which must not exist yet, while the deployment runs.

    One file per master, each as of one moment. They hold transcripts: DIR is readable for its owner alone.
    """
    started = time.monotonic()
    settings = load(**overrides)
    with _redis(settings) as url:
        manifest = take(url, redis_tls(settings), Path(directory), __version__)
    seconds = round(time.monotonic() - started, 3)
    count = sum(part.bytes for part in manifest.parts)
    if as_json:
        print_json({"directory": directory, "masters": len(manifest.parts), "bytes": count, "seconds": seconds})
    else:
        print(f"{directory}: {count / 1e6:.1f} MB of {len(manifest.parts)} masters in {seconds:.1f} s")


@click.command(cls=ExampleCommand, epilog=(
    "stenolog restore /backups/2026-11-22                              into ./data, before `stenolog up`\n"
    "REDIS_URL=redis://new-db:6379 stenolog restore /backups/tonight"
))
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@options("data")
@click.option(
    "--server", "binary", metavar="PATH", type=click.Path(exists=True, dir_okay=False),
    help="Server that reads the backup's files.  [default: the bundled Valkey]",
)
@options("json")
def restore(*, directory: str, binary: str | None, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Write the backup in DIR into a Redis that holds nothing of Stenolog yet, single or a cluster.

    Start the roles afterwards. Whatever came after the backup is lost; expired keys stay expired.
    """
    settings = load(**overrides)
    manifest = checked(Path(directory))
    with _redis(settings) as url, _progress() as bar:
        task = bar.add_task("", total=None, keys=0)
        found = restore_backup(
            Path(directory), url, redis_tls(settings), binary or binary_path(), lambda keys: bar.update(task, keys=keys)
        )
    if as_json:
        print_json({"keys": found.keys, "expired": found.expired, "taken_ms": manifest.taken_ms})
    else:
        print(f"{found.keys} keys as of {local_time(manifest.taken_ms)}; {found.expired} have expired since")


def _progress() -> Progress:
    console = Console(stderr=True, highlight=False)
    return Progress(
        SpinnerColumn(), TextColumn("{task.fields[keys]} keys written"), TimeElapsedColumn(), console=console,
        transient=True, disable=not console.is_terminal,
    )  # fmt: skip


@contextmanager
def _redis(settings: Settings) -> Iterator[str]:
    """The Redis that is set, or the embedded one, started for as long as this lasts unless `stenolog up` runs."""
    url = find_redis(settings)
    if url is not None:
        yield url
        return
    with EmbeddedServer(settings.data_dir) as server:
        yield server.url
