"""`stenolog backup` and `stenolog restore`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from eventlog.redis.server import Tls
from stenolog import __version__
from stenolog.cli.errors import UserError, told
from stenolog.local.embedded import EmbeddedServer, binary_path, running_url
from stenolog.operations.backup import BackupError, checked, restore, take
from stenolog.settings import Settings, load


def run_backup(*, directory: str, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Take a backup and say what is in it."""
    started = time.monotonic()
    with _told(), told():
        settings = load(**overrides)
        with _redis(settings) as url:
            manifest = take(url, _tls(settings), Path(directory), __version__)
    seconds = round(time.monotonic() - started, 3)
    count = sum(part.bytes for part in manifest.parts)
    if as_json:
        found = {"directory": directory, "masters": len(manifest.parts), "bytes": count, "seconds": seconds}
        print(msgspec.json.encode(found).decode())
    else:
        print(f"{directory}: {count / 1e6:.1f} MB of {len(manifest.parts)} masters in {seconds:.1f} s")


def run_restore(*, directory: str, binary: str | None, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Restore a backup, showing how far it is, and say what was written."""
    with _told(), told():
        settings = load(**overrides)
        manifest = checked(Path(directory))
        with _redis(settings) as url, _progress() as bar:
            task = bar.add_task("", total=None, keys=0)
            found = restore(
                Path(directory), url, _tls(settings), binary or binary_path(),
                lambda keys: bar.update(task, keys=keys),
            )  # fmt: skip
    if as_json:
        told_of = {"keys": found.keys, "expired": found.expired, "taken_ms": manifest.taken_ms}
        print(msgspec.json.encode(told_of).decode())
    else:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.taken_ms / 1000))
        print(f"{found.keys} keys as of {at}; {found.expired} have expired since")


def _progress() -> Progress:
    console = Console(stderr=True, highlight=False)
    return Progress(
        SpinnerColumn(), TextColumn("{task.fields[keys]} keys written"), TimeElapsedColumn(), console=console,
        transient=True, disable=not console.is_terminal,
    )  # fmt: skip


@contextmanager
def _redis(settings: Settings) -> Iterator[str]:
    """The Redis that is set, or the embedded one, started for as long as this lasts unless `stenolog up` runs."""
    url = settings.redis_url or running_url(settings.data_dir)
    if url is not None:
        yield url
        return
    with EmbeddedServer(settings.data_dir) as server:
        yield server.url


def _tls(settings: Settings) -> Tls:
    return Tls(settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BackupError as error:
        raise UserError(str(error)) from error
