"""Backups taken during live sessions, and deployments restored from them."""

import asyncio
import json
import os
import stat
from pathlib import Path

import click
import numpy as np
import pytest
import redis

from eventlog.codec import decode_fact
from eventlog.keys import READ_MODELS, partition_count
from eventlog.positions import OPENED, START, Position
from eventlog.readmodel.documents import decode_document
from eventlog.redis.server import SYSTEM_TLS, connect
from processor.worker import Worker
from stenolog.cli import cli
from stenolog.local.embedded import EmbeddedServer
from stenolog.operations.backup import MANIFEST, BackupError, Restored, restore, take
from tests.integration.edge.test_auth_redis import RULE, allow
from tests.integration.projections.facts import a_run, conversation, write
from tests.integration.rebuild.read_models import project
from tests.support import servers
from tests.support.deployment import Deployment, Session, abandon, finals_in, timeless
from tests.support.key_search import all_keys, content_of
from tests.support.pcm import Story, talk
from tests.support.servers import SERVER, Server
from tests.support.waiting import eventually_async

SESSIONS = 4
PIECE = 8


async def taken(server: Server, directory: Path) -> Path:
    """A backup of it."""
    await asyncio.to_thread(take, server.url, SYSTEM_TLS, directory / "backup", "test")
    return directory / "backup"


async def restored(backup: Path, server: Server) -> Restored:
    """The backup, written into an empty server."""
    return await asyncio.to_thread(restore, backup, server.url, SYSTEM_TLS, SERVER, lambda _: None)


async def speak(sessions: list[Session], until: int) -> None:
    """Say everything from where each session's audio ends, up to an entry."""
    for session in sessions:
        left = [entry for entry in session.entries[:until] if entry.position > session._head]
        for first in range(0, len(left), PIECE):
            await session.say(left[first : first + PIECE])


async def have_finals(sessions: list[Session]) -> bool:
    """Whether each has stated something."""
    return min([await session.finals() for session in sessions]) > 0


async def found_again(deployment: Deployment, old: Session) -> Session:
    """The same session in another deployment, as far as its audio goes there."""
    session = Session(deployment.log, deployment.server.keys.of(old.keys.session_id), old.story)
    [last] = await deployment.server.execute("XREVRANGE", session.keys.audio, "+", "-", "COUNT", 1)
    session._head = max(OPENED, Position.parse(last[0]))
    return session


async def killed(worker: Worker, sessions: list[Session]) -> dict[str, list[object]]:
    """What the sessions had stated when everything died."""
    await abandon(worker)
    return {session.keys.session_id: list(await session.facts()) for session in sessions}


async def test_a_new_deployment_starts_from_a_backup(server: Server, tmp_path: Path) -> None:
    """OPS-3: from a backup taken under traffic sessions continue where they were then, and end as undisturbed ones."""
    story = Story(np.tile(talk(), (2, 1)))
    async with Deployment(server.url) as before:
        worker = await before.started(lease_ms=1_000)
        sessions = [await before.open(story) for _ in range(SESSIONS)]
        await speak(sessions, 60)
        await eventually_async(lambda: have_finals(sessions))
        backup, _ = await asyncio.gather(taken(server, tmp_path), speak(sessions, 100))
        await project(before.server, [session.run for session in sessions])
        stated = await killed(worker, sessions)
    with servers.standalone() as new:
        assert (await restored(backup, new)).keys > 5 * SESSIONS
        async with Deployment(new.url) as after:
            again = [await found_again(after, session) for session in sessions]
            for session in again:
                known = list(await session.facts())
                assert known == stated[session.keys.session_id][: len(known)]
            await speak(again, len(story.samples))
            await after.ended(*again, hurried=await after.started(lease_ms=1_000))
            await project(after.server, [session.run for session in again])
            for session in again:
                await is_right(after, session)


async def is_right(deployment: Deployment, session: Session) -> None:
    """Its facts are those of an undisturbed run, and its document has each final once."""
    facts, server = await session.facts(), deployment.server
    assert [fact for fact in facts if b"progress_noted" not in fact[1]] == [
        (at, fact) for at, fact in session.expected() if b"progress_noted" not in fact
    ]
    document = decode_document(await server.execute("GET", session.run.document))
    assert [one.text for one in document.utterances] == [final.text for final in finals_in(facts)]
    assert [timeless(decode_fact(data)) for _, data in await deployment.log.facts(session.run, START)]


async def test_a_backup_has_everything_and_fits_any_layout(
    standalone: Server, cluster: Server, tmp_path: Path
) -> None:
    """OPS-3: each key comes back with its content and the time it had left, on a cluster too; others' stay out."""
    single = await connect(standalone.url)
    runs = [a_run(single) for _ in range(20)]
    for run in runs:
        await write(single, run, conversation(run, 3))
    await project(single, runs)
    await single.execute("EXPIRE", runs[0].list, 500)
    await single.execute("SET", "somebody else's", "x")
    before = {key: await content_of(single, key) for key in await all_keys(single) if key != "somebody else's"}
    backup = await taken(standalone, tmp_path)
    await single.close()
    assert (await restored(backup, cluster)).keys == len(before)
    other = await connect(cluster.url)
    assert {key: await content_of(other, key) for key in await all_keys(other)} == before
    assert 0 < await other.execute("TTL", runs[0].list) <= 500
    assert {await other.execute("GET", runs[0].projected(name)) is not None for name in READ_MODELS} == {True}
    await other.close()


async def test_nothing_is_written_over(standalone: Server, tmp_path: Path) -> None:
    """OPS-3: a backup goes into a new directory only, which is its owner's alone, and a restore into an empty Redis."""
    server = await connect(standalone.url)
    backup = await taken(standalone, tmp_path)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    with pytest.raises(BackupError, match="exists already"):
        await taken(standalone, tmp_path)
    with pytest.raises(BackupError, match="isn't empty"):
        await restored(backup, standalone)
    assert os.listdir(tmp_path) == ["backup"]  # noqa: PTH208 - pathlib's own is said to block
    await server.close()


async def test_a_damaged_backup_is_refused(standalone: Server, tmp_path: Path) -> None:
    """OPS-3: a backup with a byte changed, a file cut short or none at all is refused before anything is written."""
    server = await connect(standalone.url)
    backup = await taken(standalone, tmp_path)
    await server.execute("FLUSHALL")
    [file] = backup.glob("*.rdb")
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:30] + bytes([whole[30] ^ 1]) + whole[31:], b""):
        file.write_bytes(damaged)
        with pytest.raises(BackupError, match="differs from its checksum"):
            await restored(backup, standalone)
    (backup / MANIFEST).unlink()
    with pytest.raises(BackupError, match="no whole backup"):
        await restored(backup, standalone)
    assert await server.execute("DBSIZE") == 0
    await server.close()


async def test_what_cannot_be_taken_leaves_nothing(standalone: Server, tmp_path: Path) -> None:
    """OPS-3: without the documented right, or Redis, it says why and leaves no directory; with it, it is done."""
    assert RULE
    [node] = standalone.nodes
    allow(node, *RULE[1].split())
    url = standalone.url.replace("redis://", "redis://stenolog:password@")
    with pytest.raises(BackupError, match="no permissions"):
        await asyncio.to_thread(take, url, SYSTEM_TLS, tmp_path / "backup", "test")
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - as above
    with pytest.raises(BackupError, match="can't be used"):
        await asyncio.to_thread(take, "redis://127.0.0.1:1", SYSTEM_TLS, tmp_path / "backup", "test")
    allow(node, "stenolog", "+sync", "+replconf")
    await asyncio.to_thread(take, url, SYSTEM_TLS, tmp_path / "backup", "test")
    allow(node, "stenolog", "+scan", "+restore")
    node.command("FLUSHALL")
    restore(tmp_path / "backup", url, SYSTEM_TLS, SERVER, lambda _: None)
    node.command("ACL", "DELUSER", "stenolog")


def test_the_embedded_server_is_backed_up_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-3: without a REDIS_URL the commands work on the embedded server of a data directory."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer("data") as server, redis.Redis.from_url(server.url) as client:
        client.set(partition_count(), 8)
        cli.main(["backup", "one", "--data", "data"], standalone_mode=False)
    cli.main(["restore", "one", "--json", "--data", "other"], standalone_mode=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("one: 0.0 MB of 1 masters in")
    assert json.loads(second)["keys"] == 1
    with EmbeddedServer("other") as server, redis.Redis.from_url(server.url) as client:
        assert client.get(partition_count()) == b"8"
    with pytest.raises(click.ClickException, match="no whole backup"):
        cli.main(["restore", "data", "--json", "--data", "third"], standalone_mode=False)
