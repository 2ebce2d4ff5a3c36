"""`stenolog sessions` and `stenolog export`, as a user sees them."""

import asyncio
import json
import uuid
from pathlib import Path

import pytest

from eventlog.redis.server import connect
from stenolog.local.embedded import free_port
from tests.integration.edge.captions import parse_srt, parse_vtt
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import PARTITIONS, replica
from tests.integration.edge.test_stream import spoken
from tests.integration.projections.test_listing import Made, write
from tests.support.commands import stenolog


async def _three_sessions(redis_url: str) -> None:
    server = await connect(redis_url, partitions=PARTITIONS)
    await write(server, Made("s1", "acme", "ACTIVE", 1_700_000_000_000))
    await write(server, Made("s2", "acme", "CLOSED", 1_700_000_001_000))
    await write(server, Made("s3", "other", "CREATED", 1_700_000_002_000))
    await server.close()


@pytest.fixture
def variables(redis_url: str) -> dict[str, str]:
    """The environment of a deployment with three sessions."""
    asyncio.run(_three_sessions(redis_url))
    return {"REDIS_URL": redis_url, "STENOLOG_PARTITIONS": str(PARTITIONS)}


@pytest.mark.parametrize(("options", "listed"), [
    ((), ["s3", "s1", "s2"]),
    (("--tenant", "acme"), ["s1", "s2"]),
    (("--state", "active"), ["s1"]),
    (("--tenant", "acme", "--state", "closed"), ["s2"]),
    (("--limit", "1"), ["s3"]),
])  # fmt: skip
def test_sessions_are_listed(
    variables: dict[str, str], options: tuple[str, ...], listed: list[str], tmp_path: Path
) -> None:
    """Sessions are listed open ones first, narrowed down by tenant, state and number (SESS-4)."""
    done = stenolog("sessions", "--json", *options, cwd=tmp_path, variables=variables)
    assert done.returncode == 0, done.stderr
    assert [one["session_id"] for one in json.loads(done.stdout)] == listed


def test_the_table_is_plain_where_it_is_piped(variables: dict[str, str], tmp_path: Path) -> None:
    """The table has a row a session and a column each for state, tenant and age, without colours in a pipe."""
    done = stenolog("sessions", cwd=tmp_path, variables=variables)
    head, *rows = done.stdout.decode().splitlines()
    assert head.split()[:5] == ["session", "state", "tenant", "opened", "age"]
    assert [row.split()[:3] for row in rows] == [
        ["s3", "created", "other"], ["s1", "active", "acme"], ["s2", "closed", "acme"],
    ]  # fmt: skip
    assert b"\x1b[" not in done.stdout


async def test_a_transcript_is_exported(redis_url: str, tmp_path: Path) -> None:
    """A transcript comes to standard output in each format, byte by byte as the edge has it (SESS-4)."""
    async with behind(redis_url), replica(redis_url) as edge, edge.connect() as client:
        session_id = (await client.next())["session_id"]
        await spoken(client, utterances=1)
        await client.send("stop")
        transcript = (await client.until("session_end"))["transcript"]

        async def exported(form: str) -> str:
            done = await asyncio.to_thread(
                stenolog, "export", session_id, "--format", form, "--url", edge.http, cwd=tmp_path
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.decode()

        assert await exported("txt") == transcript + "\n"
        assert json.loads(await exported("json"))["transcript"] == transcript
        for form, parse in (("srt", parse_srt), ("vtt", parse_vtt)):
            [caption] = parse(await exported(form))
            assert " ".join(caption.lines) == transcript


async def test_an_unknown_session_is_told(redis_url: str, tmp_path: Path) -> None:
    """A session that isn't there, a wrong address and an edge that doesn't answer are each told in a line."""
    async with replica(redis_url) as edge:
        for arguments, told in (
            ((str(uuid.uuid4()), "--url", edge.http), "the session does not exist"),
            (("../../v1/health", "--url", edge.http), "Not Found"),
            (("x", "--url", "ftp://localhost"), "is no address of an edge"),
            (("x", "--url", f"http://127.0.0.1:{free_port()}"), "no edge answers"),
        ):
            done = await asyncio.to_thread(stenolog, "export", *arguments, cwd=tmp_path)
            assert done.returncode == 1
            assert told in done.stderr.decode()
            assert b"Traceback" not in done.stderr
            assert done.stdout == b""
