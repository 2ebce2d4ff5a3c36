"""`stenolog batch` against a running edge."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventlog.log import Code
from tests.integration.decoding.recordings import recording
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import Replica, replica
from tests.integration.edge.tokens import guarded, token
from tests.support.commands import environment, stenolog
from tests.support.speech import client_of
from tests.support.waiting import eventually_async

TENANT = "0c2d1b7e-31c5-4d0a-9d0e-6b8b1c2d3e4f"
BOUND_S = 60.0


@pytest.fixture
async def whole(redis_url: str) -> AsyncIterator[Replica]:
    """An edge, and what turns audio into transcripts."""
    async with behind(redis_url), replica(redis_url) as running:
        yield running


async def ran(edge: Replica, folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """`stenolog batch` with these arguments, once it has ended."""
    return await asyncio.to_thread(stenolog, "batch", *arguments, "--url", edge.http, cwd=folder)


async def test_a_file_s_transcript_is_printed(whole: Replica, tmp_path: Path) -> None:
    """A file's cleaned transcript goes to standard output, its progress to standard error (BATCH-1, STATUS-3)."""
    (tmp_path / "talk.wav").write_bytes(recording("wav of 16 bit"))
    done = await ran(whole, tmp_path, "talk.wav")
    assert done.returncode == 0, done.stderr
    async with client_of(whole) as http:
        answer = await http.post("/batch/process", content=recording("wav of 16 bit"))
    assert done.stdout.decode().rstrip("\n") == answer.json()["cleaned_transcript"] != ""
    output = done.stderr.decode()
    for words in ("talk.wav: taken as ", "50 % transcribed", "times as fast as it was spoken", " left.", "Done: "):
        assert words in output
    raw = await ran(whole, tmp_path, "talk.wav", "--raw")
    assert raw.stdout.decode().rstrip("\n") == answer.json()["raw_transcript"]


async def test_several_files_are_answered_in_their_order(whole: Replica, tmp_path: Path) -> None:
    """Several files give one JSON object each, in their order; one that fails is reported, and the others continue."""
    names = ["one.flac", "page.mp3", "two.mp3", "three.wav"]
    for name, kind in zip(names, ("flac", "", "mp3", "wav of 16 bit"), strict=True):
        (tmp_path / name).write_bytes(recording(kind) if kind else b"<html>no recording</html>")
    done = await ran(whole, tmp_path, *names, "--json", "--tenant", TENANT, "--user", "u-1", "--account", "a-1")
    assert done.returncode == 1
    assert b"page.mp3: not a recording that is taken" in done.stderr
    assert b"Traceback" not in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["file"] for one in found] == ["one.flac", "two.mp3", "three.wav"]
    assert {(one["tenant_id"], one["user_id"], one["account_id"]) for one in found} == {(TENANT, "u-1", "a-1")}
    assert all(one["cleaned_transcript"] for one in found)


async def test_it_need_not_wait(redis_url: str, tmp_path: Path) -> None:
    """With --async it ends once the files are durable, and prints where their results will be (BATCH-1)."""
    (tmp_path / "talk.wav").write_bytes(recording("wav of 16 bit"))
    async with replica(redis_url) as edge:  # and no worker
        done = await ran(edge, tmp_path, "talk.wav", "talk.wav", "--async")
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        assert [(url, file) for _, url, file in lines] == [(f"/batch/{one}", "talk.wav") for one, _, _ in lines]
        async with client_of(edge) as http:
            assert [(await http.get(url)).status_code for _, url, _ in lines] == [202, 202]


async def test_an_interrupted_command_stops_nothing(redis_url: str, tmp_path: Path) -> None:
    """Ctrl-C while a recording is processed ends the command with 130, and the recording is processed (BATCH-1)."""
    (tmp_path / "talk.wav").write_bytes(recording("wav of 16 bit"))
    async with replica(redis_url) as edge:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "stenolog", "batch", "talk.wav", "--url", edge.http, cwd=tmp_path,
            env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        async with asyncio.timeout(BOUND_S):
            line = await process.stderr.readline()
            assert b"taken as" in line
            interaction_id = line.decode().split()[-1]
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
        assert process.returncode == 130
        assert b"Traceback" not in errors
        keys = edge.core.server.keys.of(interaction_id)
        assert await edge.log.seal(keys.upload, "idle") is Code.SEALED
        async with behind(redis_url), client_of(edge) as http:

            async def is_there() -> bool:
                return (await http.get(f"/batch/{interaction_id}")).status_code == 200

            await eventually_async(is_there, BOUND_S)


async def test_it_sends_a_token(redis_url: str, tmp_path: Path) -> None:
    """Where an edge needs a token, a command without one fails with that reason, and one with it succeeds (SAFE-4)."""
    (tmp_path / "talk.wav").write_bytes(recording("wav of 16 bit"))
    async with behind(redis_url), guarded(redis_url) as edge:
        refused = await ran(edge, tmp_path, "talk.wav")
        assert (refused.returncode, b"unauthorized" in refused.stderr) == (1, True)
        done = await ran(edge, tmp_path, "talk.wav", "--token", token())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_an_unreachable_edge_is_reported(tmp_path: Path) -> None:
    """Without an edge at the address it says so, with exit status 1."""
    (tmp_path / "talk.wav").write_bytes(recording("wav of 16 bit"))
    done = stenolog("batch", "talk.wav", "--url", "http://127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 1
    assert b"no edge answers" in done.stderr
    assert b"Traceback" not in done.stderr
