"""`stenolog transcribe` with recordings of any format, against a running edge."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import Replica, replica
from tests.support.commands import stenolog
from tests.support.speech import RECORDINGS, client_of


@pytest.fixture
async def edge(redis_url: str) -> AsyncIterator[Replica]:
    """An edge, and what turns audio into transcripts."""
    async with behind(redis_url), replica(redis_url) as running:
        yield running


@pytest.mark.parametrize("piped", [False, True])
async def test_any_format_is_transcribed(edge: Replica, tmp_path: Path, *, piped: bool) -> None:
    """A browser's recording, from a file or a pipe, gives the transcript that one request gives (LIVE-5)."""
    recorded = (RECORDINGS / "mediarecorder.webm").read_bytes()
    (tmp_path / "talk").write_bytes(recorded)
    name = "-" if piped else "talk"
    done = await asyncio.to_thread(
        stenolog, "transcribe", name, "--url", edge.http, cwd=tmp_path, data=recorded if piped else None
    )
    assert done.returncode == 0, done.stderr
    async with client_of(edge) as client:
        answer = await client.post("/v1/transcribe?channels=1", content=recorded)
    assert done.stdout.decode().strip() == answer.json()["transcript"] != ""


async def test_channels_are_kept_apart_if_requested(edge: Replica, tmp_path: Path) -> None:
    """With --split-channels each channel is a speaker; --json prints all finals with their words (WORD-3)."""
    recorded = (RECORDINGS / "mediarecorder.webm").read_bytes()
    (tmp_path / "talk").write_bytes(recorded)
    done = await asyncio.to_thread(
        stenolog, "transcribe", "talk", "--split-channels", "--json", "--url", edge.http, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    async with client_of(edge) as client:
        answer = await client.post("/v1/transcribe?channels=2", content=recorded)
    assert {one["speaker"] for one in answer.json()["utterances"]} == {"1", "2"}
    printed = json.loads(done.stdout)
    assert printed["transcript"] == answer.json()["transcript"]
    assert printed["finals"] == answer.json()["utterances"]
    assert all(one["words"] for one in printed["finals"])


@pytest.mark.parametrize("place", ["environment", "file"])
async def test_the_edge_is_named_by_a_variable(edge: Replica, tmp_path: Path, place: str) -> None:
    """STENOLOG_URL, from the environment or `.env`, names the edge of a client command."""
    (tmp_path / "talk").write_bytes((RECORDINGS / "mediarecorder.webm").read_bytes())
    variables = {"STENOLOG_URL": edge.http} if place == "environment" else {}
    if place == "file":
        (tmp_path / ".env").write_text(f"STENOLOG_URL={edge.http}\n")
    done = await asyncio.to_thread(stenolog, "transcribe", "talk", cwd=tmp_path, variables=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


async def test_a_transcript_that_comes_late_is_fetched(redis_url: str, tmp_path: Path) -> None:
    """Where the end comes before its transcript is stitched, the transcript is fetched and printed (STITCH-4)."""
    recorded = (RECORDINGS / "mediarecorder.webm").read_bytes()
    (tmp_path / "talk").write_bytes(recorded)
    async with behind(redis_url), replica(redis_url, session_end_timeout_s=0) as edge:
        done = await asyncio.to_thread(stenolog, "transcribe", "talk", "--url", edge.http, cwd=tmp_path)
        async with client_of(edge) as client:
            answer = await client.post("/v1/transcribe?channels=1", content=recorded)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == answer.json()["transcript"] != ""
