"""`stenolog sessions` and `stenolog export`, as a user sees them."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from eventlog.redis.server import connect
from stenolog.cli import cli
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


async def test_an_edge_lists_its_sessions(redis_url: str, tmp_path: Path) -> None:
    """From an edge the same sessions and runs come as from Redis, as JSON and as a table."""
    await _three_sessions(redis_url)
    from_redis = {"REDIS_URL": redis_url, "STENOLOG_PARTITIONS": str(PARTITIONS)}
    async with replica(redis_url) as edge:

        async def listed(*options: str, variables: dict[str, str]) -> bytes:
            done = await asyncio.to_thread(stenolog, "sessions", *options, cwd=tmp_path, variables=variables)
            assert done.returncode == 0, done.stderr
            return done.stdout

        for options in ((), ("--tenant", "acme"), ("--state", "active"), ("--limit", "2")):
            own = json.loads(await listed(*options, "--json", variables=from_redis))
            edges = json.loads(await listed(*options, "--json", "--url", edge.http, variables={}))
            assert [_without_age(one) for one in edges] == [_without_age(one) for one in own]
        table = await listed(variables={"STENOLOG_URL": edge.http})
        assert [row.split()[0] for row in table.decode().splitlines()[1:]] == ["s3", "s1", "s2"]
        # The listing knows them; the log, as of sessions that have expired since, does not.
        assert json.loads(await listed("--runs", "--json", "--url", edge.http, variables={})) == []


async def test_an_edge_lists_the_runs_of_its_sessions(redis_url: str, tmp_path: Path) -> None:
    """With --runs an edge gives each session's runs, as Redis does."""
    async with behind(redis_url), replica(redis_url) as edge, edge.connect() as client:
        session_id = (await client.next())["session_id"]
        await spoken(client, utterances=1)
        await client.send("stop")
        await client.until("session_end")
        found = []
        for options in ((), ("--url", edge.http)):
            variables = {"REDIS_URL": redis_url, "STENOLOG_PARTITIONS": str(PARTITIONS)}
            done = await asyncio.to_thread(
                stenolog, "sessions", "--runs", "--json", *options, cwd=tmp_path, variables=variables
            )
            assert done.returncode == 0, done.stderr
            found.append([_without_age(one) for one in json.loads(done.stdout)])
    assert found[0] == found[1]
    [session] = found[0]
    assert session["session_id"] == session_id
    assert [(one["run"], one["promoted"]) for one in session["runs"]] == [("live", True)]


def _without_age(session: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in session.items() if name != "age_s"}


async def test_an_edge_lists_several_pages(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A listing longer than a page of the edge is read page by page, up to the limit."""
    await _three_sessions(redis_url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stenolog.cli.sessions.PAGE_SESSIONS", 1)
    async with replica(redis_url) as edge:
        for limit, ids in ((2, ["s3", "s1"]), (10, ["s3", "s1", "s2"])):
            arguments = ["sessions", "--json", "--limit", str(limit), "--url", edge.http]
            await asyncio.to_thread(cli.main, arguments, standalone_mode=False)
            assert [one["session_id"] for one in json.loads(capsys.readouterr().out)] == ids


@pytest.mark.parametrize(("options", "variables", "source"), [
    (("--url", "EDGE"), {"REDIS_URL": "REDIS"}, "edge"),
    (("--url", "EDGE", "--data", "nowhere"), {}, "edge"),
    ((), {"STENOLOG_URL": "EDGE", "REDIS_URL": "REDIS"}, "edge"),
    (("--data", "nowhere"), {"STENOLOG_URL": "EDGE", "REDIS_URL": "REDIS"}, "redis"),
    ((), {"REDIS_URL": "REDIS"}, "redis"),
])  # fmt: skip
def test_options_and_settings_choose_the_source(
    options: tuple[str, ...], variables: dict[str, str], source: str, tmp_path: Path
) -> None:
    """Options come before the environment, and there an edge before Redis; the error names the one that was tried."""
    addresses = {"EDGE": f"http://127.0.0.1:{free_port()}", "REDIS": f"redis://127.0.0.1:{free_port()}"}
    done = stenolog(
        "sessions", *(addresses.get(one, one) for one in options), cwd=tmp_path,
        variables={name: addresses.get(value, value) for name, value in variables.items()},
    )  # fmt: skip
    assert done.returncode == 1
    assert ("no edge answers" if source == "edge" else "Redis can't be used") in done.stderr.decode()


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


async def test_an_unknown_session_is_reported(redis_url: str, tmp_path: Path) -> None:
    """An unknown session, a wrong address and an edge that doesn't answer are each reported in a line."""
    async with replica(redis_url) as edge:
        for arguments, message in (
            ((str(uuid.uuid4()), "--url", edge.http), "the session does not exist"),
            (("../../v1/health", "--url", edge.http), "Not Found"),
            (("x", "--url", "ftp://localhost"), "is no address of an edge"),
            (("x", "--url", f"http://127.0.0.1:{free_port()}"), "no edge answers"),
        ):
            done = await asyncio.to_thread(stenolog, "export", *arguments, cwd=tmp_path)
            assert done.returncode == 1
            assert message in done.stderr.decode()
            assert b"Traceback" not in done.stderr
            assert done.stdout == b""
