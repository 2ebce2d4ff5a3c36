"""`stenolog archive`: what is archived of sessions."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from eventlog.archive import writer
from eventlog.archive.finder import ArchivedSession, ArchiveQuery, find
from eventlog.archive.location import open_store
from eventlog.archive.manifest import DamagedArchiveError
from eventlog.archive.reader import read_manifest, verify
from eventlog.archive.stores import ArchiveUnavailableError, MissingObjectError, Store
from eventlog.work import erasure
from stenolog.cli.errors import FAILED, UNABLE, UserError, told
from stenolog.operations.replay.time_ranges import moment_ms
from stenolog.settings import Settings, load
from stenolog.wiring import archive_place, connected

_COLUMNS = ("session", "tenant", "started", "audio s", "parts", "bytes", "missing s", "engine", "ended")
_PIPED_WIDTH = 220  # without a terminal there is no width to fit into


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An archived session as it is printed."""

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


def run_list(
    *, session_ids: Sequence[str], tenant: str | None, since: str | None, until: str | None, limit: int, as_json: bool,
    **overrides: Any,  # noqa: ANN401 - settings have many types
) -> None:  # fmt: skip
    """Print archived sessions as a table or as a JSON array."""
    wanted = _wanted(session_ids, tenant, since, until)
    with told(), _store(load(**overrides)) as store:
        found = [_listed(one) for one in islice(find(store, wanted), limit + 1)]
    if as_json:
        print(msgspec.json.encode(found[:limit]).decode())
    else:
        _console().print(_table(found[:limit]))
    if len(found) > limit:
        print("there are more; see --limit", file=sys.stderr)


def run_verify(
    *, session_ids: Sequence[str], tenant: str | None, since: str | None, until: str | None, as_json: bool,
    **overrides: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Check archived sessions, and exit by whether they are whole."""
    wanted = _wanted(session_ids, tenant, since, until)
    troubles: dict[str, list[str]] = {}
    seen: set[str] = set()
    with told(), _store(load(**overrides)) as store:
        for one in find(store, wanted):
            seen.add(one.session_id)
            faults = [one.error] if one.manifest is None else verify(store, one.manifest)
            if faults:
                troubles[one.session_id] = faults
                if not as_json:
                    print(f"{one.session_id}: {'; '.join(faults)}")
    troubles |= {session_id: ["it is not in the archive"] for session_id in session_ids if session_id not in seen}
    if as_json:
        print(msgspec.json.encode({"verified": len(seen), "damaged": troubles}).decode())
    else:
        for session_id in set(session_ids) - seen:
            print(f"{session_id}: it is not in the archive")
        print(f"{len(seen)} verified, {len(troubles)} damaged", file=sys.stderr)
    if troubles:
        sys.exit(FAILED)


def run_erase(*, session_ids: Sequence[str], **overrides: Any) -> None:  # noqa: ANN401
    """Erase sessions, and exit by whether there was something of each."""
    with told():
        settings = load(**overrides)
        with _store(settings) as store:
            erased = asyncio.run(_erased(settings, store, list(dict.fromkeys(session_ids))))
    for session_id, was_there in erased.items():
        print(f"{session_id}: {'erased' if was_there else 'there was nothing of it'}")
    if not all(erased.values()):
        sys.exit(FAILED)


async def _erased(settings: Settings, store: Store, session_ids: Sequence[str]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    async with connected(settings) as server:
        for session_id in session_ids:
            tenant_id = await asyncio.to_thread(_tenant_of, store, session_id)
            # First in Redis, so that nothing writes any more, and replays of it stop.
            was_known = await erasure.erase(server, server.keys.of(session_id), tenant_id)
            objects = await asyncio.to_thread(writer.erase, store, session_id)
            found[session_id] = was_known or objects > 0
    return found


def _tenant_of(store: Store, session_id: str) -> str:
    try:
        return read_manifest(store, session_id).tenant_id
    except (MissingObjectError, DamagedArchiveError):
        return ""


def _wanted(session_ids: Sequence[str], tenant: str | None, since: str | None, until: str | None) -> ArchiveQuery:
    now_ms = time.time_ns() // 1_000_000
    try:
        since_ms, until_ms = (None if text is None else moment_ms(text, now_ms) for text in (since, until))
    except ValueError as error:
        raise UserError(str(error), UNABLE) from error
    return ArchiveQuery(tuple(session_ids), tenant, since_ms, until_ms)


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    """The archive of the settings."""
    place = archive_place(settings)
    if place is None:
        raise UserError("no archive is set: STENOLOG_ARCHIVE_URL says where it is", UNABLE)
    store = open_store(place)
    try:
        yield store
    except ArchiveUnavailableError as error:
        raise UserError(f"the archive can't be used: {error}") from error
    finally:
        store.close()


def _listed(found: ArchivedSession) -> Listed:
    manifest = found.manifest
    if manifest is None:
        return Listed(
            session_id=found.session_id, tenant_id="", started_ms=0, ended_ms=0, audio_seconds=0, missing_seconds=0,
            parts=0, bytes=0, engine="", reason="", trouble=found.error,
        )  # fmt: skip
    rate_hz = manifest.sample_rate_hz
    return Listed(
        session_id=manifest.session_id, tenant_id=manifest.tenant_id, started_ms=manifest.started_ms,
        ended_ms=manifest.ended_ms, audio_seconds=round(manifest.total_samples / rate_hz, 3),
        missing_seconds=round(sum(end - start for start, end in manifest.missing) / rate_hz, 3),
        parts=len(manifest.parts), bytes=sum(part.bytes for part in manifest.parts), engine=manifest.engine,
        reason=manifest.reason,
    )  # fmt: skip


def _table(found: Sequence[Listed]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for one in found:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.started_ms / 1000))
        table.add_row(
            one.session_id, one.tenant_id, started, f"{one.audio_seconds:.1f}", str(one.parts), str(one.bytes),
            f"{one.missing_seconds:.1f}", one.engine, one.trouble or one.reason, style="red" if one.trouble else None,
        )  # fmt: skip
    return table


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, markup=False, no_color=True, width=_PIPED_WIDTH)
