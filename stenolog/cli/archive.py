"""`stenolog archive`: archived sessions, listed, verified, erased."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import click
import msgspec
from rich.table import Table

from eventlog.archive import writer
from eventlog.archive.finder import ArchivedSession, ArchiveQuery, find
from eventlog.archive.location import open_store
from eventlog.archive.manifest import DamagedArchiveError
from eventlog.archive.reader import read_manifest, verify
from eventlog.archive.stores import ArchiveUnavailableError, MissingObjectError, Store
from eventlog.work import erasure
from stenolog.cli.options import ExampleCommand, ExampleGroup, options
from stenolog.cli.output import local_time, output_console, print_json
from stenolog.errors import FAILED, UNABLE, UserError
from stenolog.operations.replay.time_ranges import parse_range
from stenolog.settings import Settings, load
from stenolog.wiring import archive_place, connected

_COLUMNS = ("session", "tenant", "started", "audio s", "parts", "bytes", "missing s", "engine", "ended")


class SessionInArchive(msgspec.Struct, frozen=True, kw_only=True):
    """An archived session in the form that is printed."""

    session_id: str
    tenant_id: str
    started_ms: int
    ended_ms: int
    audio_seconds: float
    missing_seconds: float
    parts: int
    bytes: int
    engine: str
    reason: str
    trouble: str = ""
    """Why it can't be read."""


@click.group(cls=ExampleGroup, epilog="stenolog archive list --since 7d")
def archive() -> None:
    """Archived sessions: list them, verify them, erase them."""


@archive.command("list", cls=ExampleCommand, epilog=(
    "stenolog archive list --since 7d\n"
    "stenolog archive list --tenant acme --since 2026-01-01 --until 2026-02-01 --json | jq -r '.[].session_id'"
))
@click.argument("session_ids", metavar="[SESSION]...", nargs=-1)
@options("data", "tenant", "since", "until")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Most listed.")
@options("json")
def list_archive(*, limit: int, as_json: bool, data_dir: str | None, **query: Any) -> None:  # noqa: ANN401 - options have many types
    """List archived sessions, day by day: tenant, start, length, size; never any transcript."""
    with _store(load(data_dir=data_dir)) as store:
        found = [_view(one) for one in islice(find(store, _query(**query)), limit + 1)]
    if as_json:
        print_json(found[:limit])
    else:
        output_console().print(_table(found[:limit]))
    if len(found) > limit:
        print("more sessions exist; see --limit", file=sys.stderr)


@archive.command("verify", cls=ExampleCommand, epilog=(
    "stenolog archive verify --since 1d\n"
    "stenolog archive verify $SESSION --json"
))
@click.argument("session_ids", metavar="[SESSION]...", nargs=-1)
@options("data", "tenant", "since", "until", "json")
def verify_archive(
    *, session_ids: Sequence[str], as_json: bool, data_dir: str | None, **query: Any  # noqa: ANN401
) -> None:
    """Read all files of archived sessions, and compare them with their checksums: exit status 1 if one differs."""
    damaged: dict[str, list[str]] = {}
    seen: set[str] = set()
    with _store(load(data_dir=data_dir)) as store:
        for one in find(store, _query(session_ids, **query)):
            seen.add(one.session_id)
            faults = [one.error] if one.manifest is None else verify(store, one.manifest)
            if faults:
                damaged[one.session_id] = faults
                if not as_json:
                    print(f"{one.session_id}: {'; '.join(faults)}")
    damaged |= {session_id: ["it is not in the archive"] for session_id in session_ids if session_id not in seen}
    if as_json:
        print_json({"verified": len(seen), "damaged": damaged})
    else:
        for session_id in set(session_ids) - seen:
            print(f"{session_id}: it is not in the archive")
        print(f"{len(seen)} verified, {len(damaged)} damaged", file=sys.stderr)
    if damaged:
        sys.exit(FAILED)


@archive.command("erase", cls=ExampleCommand, epilog="stenolog archive erase $SESSION")
@click.argument("session_ids", metavar="SESSION...", nargs=-1, required=True)
@options("data")
def erase_archive(*, session_ids: Sequence[str], **overrides: Any) -> None:  # noqa: ANN401
    """Erase sessions from the archive, and from Redis if it still holds them; replays of them end.

    DELETE of a session does the same; this is for those that Redis no longer knows. Exit status 1 if one of them
    existed nowhere.
    """
    settings = load(**overrides)
    with _store(settings) as store:
        erased = asyncio.run(_erase(settings, store, list(dict.fromkeys(session_ids))))
    for session_id, was_found in erased.items():
        print(f"{session_id}: {'erased' if was_found else 'nothing of it was found'}")
    if not all(erased.values()):
        sys.exit(FAILED)


async def _erase(settings: Settings, store: Store, session_ids: Sequence[str]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    async with connected(settings) as server:
        for session_id in session_ids:
            tenant_id = await asyncio.to_thread(_tenant_of, store, session_id)
            # First in Redis, so that nothing writes any more, and its replays stop.
            was_known = await erasure.erase(server, server.keys.of(session_id), tenant_id)
            objects = await asyncio.to_thread(writer.erase, store, session_id)
            found[session_id] = was_known or objects > 0
    return found


def _tenant_of(store: Store, session_id: str) -> str:
    try:
        return read_manifest(store, session_id).tenant_id
    except (MissingObjectError, DamagedArchiveError):
        return ""


def _query(
    session_ids: Sequence[str], tenant: str | None, since: str | None, until: str | None
) -> ArchiveQuery:
    try:
        return ArchiveQuery(tuple(session_ids), tenant, *parse_range(since, until, time.time_ns() // 1_000_000))
    except ValueError as error:
        raise UserError(str(error), UNABLE) from error


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    """The archive of the settings."""
    place = archive_place(settings)
    if place is None:
        raise UserError("no archive is set: STENOLOG_ARCHIVE_URL names it", UNABLE)
    store = open_store(place)
    try:
        yield store
    except ArchiveUnavailableError as error:
        raise UserError(f"the archive can't be used: {error}") from error
    finally:
        store.close()


def _view(found: ArchivedSession) -> SessionInArchive:
    manifest = found.manifest
    if manifest is None:
        return SessionInArchive(
            session_id=found.session_id, tenant_id="", started_ms=0, ended_ms=0, audio_seconds=0, missing_seconds=0,
            parts=0, bytes=0, engine="", reason="", trouble=found.error,
        )  # fmt: skip
    rate_hz = manifest.sample_rate_hz
    return SessionInArchive(
        session_id=manifest.session_id, tenant_id=manifest.tenant_id, started_ms=manifest.started_ms,
        ended_ms=manifest.ended_ms, audio_seconds=round(manifest.total_samples / rate_hz, 3),
        missing_seconds=round(sum(end - start for start, end in manifest.missing) / rate_hz, 3),
        parts=len(manifest.parts), bytes=sum(part.bytes for part in manifest.parts), engine=manifest.engine,
        reason=manifest.reason,
    )  # fmt: skip


def _table(found: Sequence[SessionInArchive]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for one in found:
        table.add_row(
            one.session_id, one.tenant_id, local_time(one.started_ms), f"{one.audio_seconds:.1f}", str(one.parts),
            str(one.bytes), f"{one.missing_seconds:.1f}", one.engine, one.trouble or one.reason,
            style="red" if one.trouble else None,
        )  # fmt: skip
    return table
