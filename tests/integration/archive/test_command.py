"""`stenolog archive`, and `stenolog replay` of sessions that only an archive has, as a user sees them."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from eventlog.archive import layout
from eventlog.archive.manifest import Manifest
from eventlog.work.replays import ARCHIVE
from stenolog.cli import cli
from stenolog.operations.replay.archive_source import ArchiveSource
from stenolog.operations.replay.sources import Selection
from tests.integration.archive.live_archives import Replayed, at, store_at
from tests.integration.replay.commands import Command, statuses
from tests.support.archives import archive
from tests.support.commands import stenolog
from tests.support.deployment import PARTITIONS, Deployment, expected, finals_in
from tests.support.pcm import Story, talk

STORY = Story(talk(), finalized=(20_000,), holes=((60_000, 70_000),))
WHEN_MS = 1_763_812_800_000


def filled(path: Path, count: int = 2) -> list[Manifest]:
    """An archive of some sessions, a tenant and an hour each."""
    store = store_at(path)
    starts = [
        msgspec.structs.replace(
            STORY.start, session_id=str(uuid.uuid4()), tenant_id=f"t{number}", engine="mock",
            started_ms=WHEN_MS + number * 3_600_000,
        )
        for number in range(count)
    ]  # fmt: skip
    return [archive(store, STORY, start=start) for start in starts]


def variables(path: Path, redis_url: str = "redis://127.0.0.1:1") -> dict[str, str]:
    """The environment of commands; without an address Redis is absent."""
    return {"STENOLOG_ARCHIVE_URL": at(path).url, "REDIS_URL": redis_url, "STENOLOG_PARTITIONS": str(PARTITIONS)}


def said(path: Path, *arguments: str, status: int = 0) -> str:
    """The output of a command that needs no Redis."""
    done = CliRunner().invoke(cli, ["archive", *arguments], env=variables(path))
    assert done.exit_code == status, done.output
    return done.stdout


def test_sessions_are_listed_without_redis(tmp_path: Path) -> None:
    """REPLAY-1: archived sessions are listed by tenant and time, without their text, with or without Redis."""
    first, second = filled(tmp_path)
    listed: list[dict[str, Any]] = json.loads(said(tmp_path, "list", "--json"))
    assert {one["session_id"] for one in listed} == {first.session_id, second.session_id}
    [one] = json.loads(said(tmp_path, "list", "--json", "--tenant", "t1", "--since", "2025-11-22T12:30Z"))
    assert (one["session_id"], one["missing_seconds"], one["parts"]) == (second.session_id, 0.625, len(second.parts))
    assert first.session_id in said(tmp_path, "list", first.session_id)
    assert "no archive is set" in CliRunner().invoke(cli, ["archive", "list"], env={"STENOLOG_ARCHIVE_URL": ""}).stderr


def test_damage_is_found(tmp_path: Path) -> None:
    """Checksums are compared, damage is reported by session and file, and sets the exit status."""
    first, second = filled(tmp_path)
    assert json.loads(said(tmp_path, "verify", "--json")) == {"verified": 2, "damaged": {}}
    part = tmp_path / "archive" / layout.folder(second.session_id) / second.parts[0].file
    part.write_bytes(part.read_bytes()[:-1])
    report = json.loads(said(tmp_path, "verify", "--json", second.session_id, "nobody", status=1))
    assert report["verified"] == 1
    assert set(report["damaged"]) == {second.session_id, "nobody"}
    assert second.parts[0].file in said(tmp_path, "verify", "--tenant", "t1", status=1)
    assert said(tmp_path, "verify", first.session_id) == ""


async def test_an_operator_erases(single: Deployment, tmp_path: Path) -> None:
    """STITCH-5: a session that Redis no longer has is erased by its id, its replays with it, and the others stay."""
    doomed, other = filled(tmp_path)
    keys = single.server.keys.of(doomed.session_id)
    run = Replayed(single, keys, "again")
    await single.server.execute("XADD", run.run.transcript, "*", "fact", "")
    await single.server.execute("ZADD", keys.partition.index, 1, run.run.member)
    arguments = ("archive", "erase", doomed.session_id, "nobody")
    done = await asyncio.to_thread(stenolog, *arguments, cwd=tmp_path, variables=variables(tmp_path, single.url))
    assert done.returncode == 1
    output = done.stdout.decode().splitlines()
    assert output == [f"{doomed.session_id}: erased", "nobody: nothing of it was found"]
    assert await single.server.execute("EXISTS", run.run.transcript) == 0
    store = store_at(tmp_path)
    assert [name for name in (*store.names("sessions"), *store.names("index")) if doomed.session_id in name] == []
    assert len(list(store.names("index"))) == 1
    assert other.session_id in next(iter(store.names("index")))


@pytest.mark.timeout(120)
async def test_the_archive_is_replayed_by_command(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1, REPLAY-3: `stenolog replay` finds and replays sessions that only the archive has, to the sample."""
    manifests = filled(tmp_path)
    arguments = ("--since", "2025-11-22T12:00Z", "--until", "2025-11-22T14:00Z", "--name", "again", "--workers", "1")
    with Command(
        single.url, tmp_path, *arguments, "--json", STENOLOG_ARCHIVE_URL=at(tmp_path).url
    ) as command:  # fmt: skip
        assert command.ended() == 0, command.stderr
    each, _ = command.lines()
    assert statuses(each) == {one.session_id: "done" for one in manifests}
    for manifest in manifests:
        again = Replayed(single, single.server.keys.of(manifest.session_id), "again")
        assert finals_in(await again.facts()) == finals_in(expected(STORY, manifest.session_id)) != []


async def test_sources_list_the_archive(tmp_path: Path) -> None:
    """REPLAY-1: archived sessions are offered with tenant, length and source; damaged ones are skipped."""
    first, second = filled(tmp_path)
    (tmp_path / "archive" / layout.folder(second.session_id) / layout.MANIFEST).write_bytes(b"{}")
    source = ArchiveSource(at(tmp_path))
    found = [one async for one in source.find(Selection())]
    assert [(one.session_id, one.tenant_id, one.total_samples, one.source) for one in found] == [
        (first.session_id, "t0", len(STORY.samples), ARCHIVE)
    ]
    assert found[0].start.segmenter == STORY.start.segmenter
