"""Recorded files in one request: the answers, and their time."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from edge.ingest.batch import BatchPending, BatchResult
from eventlog.log import Code
from eventlog.positions import SEALED
from eventlog.readmodel.views import read_document
from eventlog.redis.server import connect
from eventlog.work.claims import Claims
from tests.integration.decoding.recordings import NAMES, recording
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import PARTITIONS, RATE_HZ, TTL_S, Client, Replica, replica
from tests.integration.edge.test_recordings import nothing_is_left
from tests.support.edge_clients import status_of
from tests.support.pcm import talk
from tests.support.speech import PCM, RECORDINGS, SECOND, client_of, refusal, speech
from tests.support.waiting import eventually_async

FIRST_FIELDS = ["interaction_id", "raw_transcript", "cleaned_transcript", "segments"]
UNUSED = "7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a"
BOUND_S = 30.0


async def processed(http: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """The result at an address, once it is there."""

    async def look() -> dict[str, Any] | None:
        answer = await http.get(url)
        assert answer.status_code in {200, 202}, answer.text
        found: dict[str, Any] = answer.json()
        return found if answer.status_code == 200 else None

    return await eventually_async(look, BOUND_S) or {}


@pytest.mark.usefixtures("path")
async def test_a_recording_is_answered_with_its_transcript(http: httpx2.AsyncClient) -> None:
    """A recording is answered with its id, raw and cleaned transcript and segments, as a form or bare (BATCH-1)."""
    audio = speech(2)
    bare = await http.post("/batch/process?language=de", content=audio, headers=PCM)
    form = await http.post(
        "/batch/process", files={"file": ("a.raw", audio, "audio/pcm")}, data={"language": "de"}
    )
    assert (bare.status_code, form.status_code) == (200, 200)
    found, other = bare.json(), form.json()
    assert list(found) == list(BatchResult.__struct_fields__)
    assert list(found)[: len(FIRST_FIELDS)] == FIRST_FIELDS
    assert uuid.UUID(found["interaction_id"]).version == 4
    assert found["raw_transcript"] == " ".join(one["text"] for one in found["segments"])
    assert len(found["segments"]) == 2
    assert (found["reason"], found["language"], found["audio_seconds"]) == ("stop", "de", 5.0)
    document = (await http.get(found["transcript_url"])).json()
    assert (document["transcript"], document["cleaned"]) == (found["raw_transcript"], found["cleaned_transcript"])
    assert found["cleaned_transcript"] != ""
    assert (other["raw_transcript"], other["segments"]) == (found["raw_transcript"], found["segments"])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", NAMES)
async def test_every_format_is_processed(http: httpx2.AsyncClient, name: str) -> None:
    """Each format that is taken gives the text that the same file gives over the WebSocket (BATCH-1, LIVE-5)."""
    recorded = recording(name)
    answer = await http.post("/batch/process", files={"file": ("talk", recorded)})
    assert answer.status_code == 200, answer.text
    assert abs(answer.json()["audio_seconds"] - len(talk(16_000, 1)) / 16_000) < 0.3
    assert [_said(one) for one in answer.json()["segments"]] == await over_the_socket(http, recorded, "container")


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["mediarecorder.webm", "mediarecorder.mp4"])
async def test_a_browser_s_recording_is_processed(http: httpx2.AsyncClient, name: str) -> None:
    """What Chromium's MediaRecorder made is taken (BATCH-1, LIVE-5)."""
    answer = await http.post("/batch/process", content=(RECORDINGS / name).read_bytes())
    assert answer.status_code == 200, answer.text
    assert answer.json()["raw_transcript"]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100, 48_000])
async def test_raw_samples_are_processed(http: httpx2.AsyncClient, rate_hz: int, channels: int) -> None:
    """Bare samples of each rate, mono and stereo, give the text that they give over the WebSocket (BATCH-1, LIVE-5)."""
    samples = talk(rate_hz, channels)
    query = f"sample_rate={rate_hz}&channels={channels}"
    answer = await http.post(f"/batch/process?{query}", content=samples.tobytes(), headers=PCM)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["audio_seconds"] == round(len(samples) / rate_hz, 3)
    assert {one["channel"] for one in found["segments"]} == set(range(channels))
    assert [_said(one) for one in found["segments"]] == await over_the_socket(http, samples.tobytes(), query)


async def over_the_socket(http: httpx2.AsyncClient, data: bytes, query: str) -> list[tuple[str, float, float, int]]:
    """The messages that a WebSocket client gets for the same file or samples."""
    query = "encoding=container" if query == "container" else query
    async with Client(f"ws://127.0.0.1:{http.base_url.port}/v1/transcribe/stream?{query}") as client:
        for first in range(0, len(data), 32_000):
            await client.send(data[first : first + 32_000])
        await client.send("stop")
        await client.until("session_end")
        return [_said(final) for final in client.of("final")]


def _said(status: dict[str, Any]) -> tuple[str, float, float, int]:
    return status["text"], status["start"], status["end"], status["channel"]


@pytest.mark.usefixtures("path")
async def test_a_silent_recording_is_no_error(http: httpx2.AsyncClient) -> None:
    """A recording without speech has empty transcripts and no segments (BATCH-1, STITCH-6)."""
    found = (await http.post("/batch/process", content=bytes(3 * SECOND), headers=PCM)).json()
    assert [found[name] for name in FIRST_FIELDS[1:]] == ["", "", []]


@pytest.mark.parametrize("prefer", ["respond-async", "respond-async, wait=0", "wait=0"])
async def test_respond_async_is_answered_at_once(redis_url: str, prefer: str) -> None:
    """With `Prefer: respond-async` the answer is 202 and the session's addresses, once it is durable (BATCH-1)."""
    async with replica(redis_url) as edge, client_of(edge) as http:
        headers = {**PCM, "prefer": prefer}
        answer = await http.post("/batch/process", content=speech(1), headers=headers)
        assert (answer.status_code, answer.headers["preference-applied"]) == (202, prefer)
        found = answer.json()
        assert list(found) == list(BatchPending.__struct_fields__)
        assert answer.headers["location"] == found["result_url"] == f"/batch/{found['interaction_id']}"
        there = await edge.log.read_position(edge.core.server.keys.of(found["interaction_id"]))
        assert there is not None
        assert await edge.log.seal(edge.core.server.keys.of(found["interaction_id"]), "idle") is Code.SEALED
        assert (await http.get(found["result_url"])).status_code == 202
        async with behind(redis_url):
            result = await processed(http, found["result_url"])
            assert len(result["segments"]) == 1
            assert (await http.get(found["transcript_url"])).json()["transcript"] == result["raw_transcript"]
            async with status_of(edge, found["interaction_id"]) as stream:
                assert (await stream.all())[-1].data["status"] == "completed"
            assert found["status_url"] == f"/api/v1/sessions/{found['interaction_id']}/status/stream"
            assert (await http.get(found["status_url"])).status_code == 200
            assert (await http.get(found["events_url"])).status_code == 200


async def test_a_client_s_timeout_is_applied(redis_url: str) -> None:
    """`Prefer: wait=1` gives 200 if the transcript exists by then, else 202, and is named as applied (BATCH-1)."""
    async with replica(redis_url) as edge, client_of(edge) as http:
        headers = {**PCM, "prefer": "wait=1"}
        answer = await http.post("/batch/process", content=speech(1), headers=headers)
        assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
        async with behind(redis_url):
            await processed(http, answer.headers["location"])
            patient = {**PCM, "prefer": "respond-async, wait=60"}
            answer = await http.post("/batch/process", content=speech(1), headers=patient)
            assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=60")


async def test_a_long_wait_is_bounded(redis_url: str) -> None:
    """Past the deployment's bound the answer is 202, whatever the client would have waited (BATCH-1)."""
    async with replica(redis_url, batch_timeout_s=0.1) as edge, client_of(edge) as http:
        for headers in (PCM, {**PCM, "prefer": "wait=60"}):
            answer = await http.post("/batch/process", content=speech(1), headers=headers)
            assert answer.status_code == 202
            assert "preference-applied" not in answer.headers


async def test_an_unknown_interaction_is_a_404(http: httpx2.AsyncClient) -> None:
    """The result of an interaction that there isn't is a 404, also where its id is none (BATCH-1)."""
    for interaction_id in (UNUSED, "nonsense"):
        assert refusal(await http.get(f"/batch/{interaction_id}")) == (404, "unknown_session")


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("body", "why"), [
    (b"<html>no recording</html>", "begins like HTML"), (b"\x1aE\xdf\xa3" + bytes(5000), ""), (b"", "is empty"),
])  # fmt: skip
async def test_an_undecodable_recording_is_refused(http: httpx2.AsyncClient, body: bytes, why: str) -> None:
    """An undecodable body gets 422 with the reason, at once or at the result's address (BATCH-1)."""
    headers = {"content-type": "audio/webm"}
    answer = await http.post("/batch/process", content=body, headers=headers)
    assert refusal(answer) == (422, "invalid_audio")
    message = answer.json()["detail"]
    assert why in message
    if named := re.search(r"\(interaction ([0-9a-f-]{36})\)", message):
        later = await http.get(f"/batch/{named[1]}")
        assert refusal(later) == (422, "invalid_audio")
        assert why in later.json()["detail"]
    assert bool(named) == bool(body)


async def test_an_early_disconnect_erases_the_session(edge: Replica) -> None:
    """Of a client that goes away before the end of its recording neither a session nor a place is left (BATCH-1)."""
    writer = await started(edge, announced=100_000)
    await eventually_async(edge.core.reservations.held, BOUND_S)
    writer.transport.abort()
    await eventually_async(lambda: nothing_is_left(edge), BOUND_S)


async def test_a_late_disconnect_stops_nothing(redis_url: str) -> None:
    """A recording that is there whole is processed whether or not its client waits, and frees its place (BATCH-1)."""
    async with replica(redis_url) as edge:
        server = edge.core.server
        writer = await started(edge, announced=50_000)
        opened = await eventually_async(lambda: server.execute("KEYS", "*:session:*"), BOUND_S)
        keys = server.keys.of(opened[0].decode().rpartition(":")[2])
        await eventually_async(lambda: _is_sealed(edge, keys.session_id), BOUND_S)
        writer.transport.abort()
        await eventually_async(lambda: _are_free(edge), BOUND_S)
        async with behind(redis_url):
            await eventually_async(lambda: read_document(server, keys.run()), BOUND_S)


async def started(edge: Replica, *, announced: int) -> asyncio.StreamWriter:
    """A connection on which 50,000 bytes of so many were sent."""
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    head = f"POST /batch/process HTTP/1.1\r\nhost: x\r\ncontent-type: audio/l16\r\ncontent-length: {announced}\r\n\r\n"
    writer.write(head.encode() + bytes(50_000))
    await writer.drain()
    return writer


async def _is_sealed(edge: Replica, session_id: str) -> bool:
    found = await edge.log.read_position(edge.core.server.keys.of(session_id))
    return found is not None and found.head == SEALED


async def _are_free(edge: Replica) -> bool:
    return await edge.core.reservations.held() == 0


@contextlib.asynccontextmanager
async def unclaimed(redis_url: str) -> AsyncIterator[None]:
    """Partitions whose consumer groups are there, and no worker."""
    server = await connect(redis_url, partitions=PARTITIONS)
    await Claims(server, "test", lease_ms=5000, session_ttl_s=TTL_S).ensure_groups()
    yield
    await server.close()


async def test_samples_don_t_run_ahead_of_their_worker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are appended no further than the bound ahead of their transcript, then all of them (BATCH-1)."""
    monkeypatch.setattr("edge.ingest.flow_control.MIN_BACKLOG_S", 30)
    audio, bound = speech(40), 30 * SECOND
    async with replica(redis_url, max_upload_ahead_bytes=SECOND) as edge, client_of(edge) as http:
        server = edge.core.server
        sending = asyncio.create_task(http.post("/batch/process", content=audio, headers=PCM))
        keys = server.keys.of((await eventually_async(lambda: _sessions(edge), BOUND_S))[0])

        async def end_bytes() -> int:
            there = await edge.log.read_position(keys)
            return 0 if there is None else 2 * there.head.offset

        async def is_full() -> bool:
            return await end_bytes() > bound - 70_000

        await eventually_async(is_full, BOUND_S)
        async with unclaimed(redis_url):
            await _nothing_comes(end_bytes, bound)
        async with behind(redis_url):
            answer = await sending
        assert answer.status_code == 200, answer.text
        assert answer.json()["audio_seconds"] == len(audio) / 2 / RATE_HZ
        assert len(answer.json()["segments"]) == 40


async def _sessions(edge: Replica) -> list[str]:
    names = await edge.core.server.execute("KEYS", "*:session:*")
    return [name.decode().rpartition(":")[2] for name in names]


async def _nothing_comes(end_bytes: Any, bound: int) -> None:  # noqa: ANN401
    """Look for a while whether anything goes over the bound."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while True:
                assert await end_bytes() <= bound
                await asyncio.wait_for(asyncio.Event().wait(), 0.05)


async def test_a_sender_s_wait_is_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no worker takes a recording whose samples are far ahead, its sender gets 503 (SESS-10)."""
    monkeypatch.setattr("edge.ingest.flow_control.MIN_BACKLOG_S", 1)
    monkeypatch.setattr("edge.session.upload_credit.PROGRESS_TIMEOUT_S", 0.2)
    async with replica(redis_url, max_upload_ahead_bytes=SECOND) as edge, client_of(edge) as http:
        answer = await http.post("/batch/process", content=speech(2), headers=PCM)
        assert refusal(answer) == (503, "log_unavailable")
        assert await nothing_is_left(edge)
