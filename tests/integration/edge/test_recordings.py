"""Whole recordings in one request: formats, bounds, clients that leave, a Redis that does."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from eventlog.codec import decode_audio_event
from eventlog.events import SessionSealed
from eventlog.log import Append, Appended, AudioEntry, LogFullError
from eventlog.positions import START
from tests.integration.decoding.recordings import FORMATS, recording
from tests.integration.edge.replicas import Replica, replica
from tests.support.pcm import talk
from tests.support.speech import PCM, RECORDINGS, SECOND, client_of, refusal, speech
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async

WEBM = {"content-type": "audio/webm;codecs=opus"}


async def only_session(edge: Replica) -> list[AudioEntry]:
    """The stream of the only session; empty while none exists."""
    [*names] = await edge.core.server.execute("KEYS", "*:audio:*")
    if not names:
        return []
    keys = edge.core.server.keys.of(names[0].decode().rpartition(":")[2])
    return (await edge.log.read({keys: START}, max_bytes_each=1 << 26))[keys]


async def nothing_is_left(edge: Replica) -> bool:
    """Whether neither a session's keys nor its place are there."""
    kinds = ("audio", "session", "upload", "upload-guard", "transcript")
    keys = [await edge.core.server.execute("KEYS", f"*:{kind}:*") for kind in kinds]
    return keys == [[]] * len(kinds) and await edge.core.reservations.held() == 0


@pytest.mark.usefixtures("path")
async def test_one_request_gives_one_transcript(redis_url: str) -> None:
    """A recording is answered with its document, the same whether it comes as a form or bare (SESS-2)."""
    audio = speech(2)
    async with replica(redis_url) as edge, client_of(edge) as client:
        bare = (await client.post("/v1/transcribe?language=de", content=audio, headers=PCM)).json()
        form = (
            await client.post(
                "/v1/transcribe", files={"file": ("a.raw", audio, "audio/pcm")}, data={"language": "de"}
            )
        ).json()  # fmt: skip
        assert await edge.core.reservations.held() == 0
    assert (bare["reason"], bare["language"], bare["audio_seconds"]) == ("stop", "de", 5.0)
    assert len(bare["utterances"]) == 2
    for name in ("session_id", "ended_at"):
        assert bare.pop(name) != form.pop(name)
    assert bare == form


@pytest.mark.usefixtures("path")
async def test_options_come_in_the_form(redis_url: str) -> None:
    """Rate and channels of bare samples are the form's, and each channel is transcribed apart (SESS-2, LIVE-5)."""
    left, right = speech(1, seed=1), speech(1, seed=2)
    stereo = b"".join(left[at : at + 2] + right[at : at + 2] for at in range(0, len(left), 2))
    async with replica(redis_url) as edge, client_of(edge) as client:
        answer = await client.post(
            "/v1/transcribe", files={"file": ("a.raw", stereo, "audio/pcm")},
            data={"channels": "2", "sample_rate": "8000"},
        )  # fmt: skip
    document = answer.json()
    assert (document["sample_rate"], document["audio_seconds"]) == (8000, 5.0)
    assert {one["speaker"] for one in document["utterances"]} == {"1", "2"}


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("accept", "kind", "begins"),
    [("text/vtt", "text/vtt", "WEBVTT"), ("application/x-subrip", "application/x-subrip", "1\n"),
     ("text/plain", "text/plain", ""), ("*/*", "application/json", "{")],
)  # fmt: skip
async def test_the_answer_has_the_format_asked_for(redis_url: str, accept: str, kind: str, begins: str) -> None:
    """The transcript comes as JSON, text, SRT or WebVTT by Accept (SESS-2, SESS-4)."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        answer = await client.post("/v1/transcribe", content=speech(1), headers={**PCM, "accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.text.startswith(begins)


async def test_no_format_is_no_session(edge: Replica) -> None:
    """A request for a format that there isn't is refused before its recording is taken (SAFE-4)."""
    async with client_of(edge) as client:
        answer = await client.post("/v1/transcribe", content=b"ab", headers={**PCM, "accept": "image/png"})
    assert refusal(answer) == (406, "not_acceptable")
    assert await only_session(edge) == []


@pytest.mark.parametrize("address", ["/v1/transcribe", "/live/transcribe"])
async def test_a_transcript_that_takes_long_is_fetched(redis_url: str, address: str) -> None:
    """Past its bound a request is answered with 202 and the transcript's address; the session continues (SESS-2)."""
    async with replica(redis_url, result_timeout_s=0.1) as edge, client_of(edge) as client:
        answer = await client.post(address, content=speech(1), headers=PCM)
        assert answer.status_code == 202
        session_id, url = answer.json()["session_id"], answer.json()["transcript_url"]
        assert session_id in url
        assert (await client.get(url)).status_code == 200
        last = decode_audio_event((await only_session(edge))[-1].event or b"")
    assert last == SessionSealed(reason="stop", offset_samples=len(speech(1)) // 2)


@pytest.mark.parametrize("container", [True, False])
async def test_a_disconnect_erases_the_session(edge: Replica, *, container: bool) -> None:
    """A client that goes away within its recording leaves nothing behind, and no place taken (SESS-6, STITCH-5)."""
    kind = "audio/webm" if container else "audio/l16"
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    head = f"POST /v1/transcribe HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 100000\r\n\r\n"
    writer.write(head.encode() + bytes(50_000))
    await eventually_async(lambda: _held(edge, 1))
    writer.transport.abort()
    await eventually_async(lambda: _held(edge, 0))
    assert await nothing_is_left(edge)


async def _held(edge: Replica, places: int) -> bool:
    return await edge.core.reservations.held() == places


async def test_a_too_large_recording_is_not_read(redis_url: str) -> None:
    """A recording over the bound is refused by its announced length before any of it is taken, else at the bound."""
    async with replica(redis_url, max_upload_bytes=100_000) as edge, client_of(edge) as client:
        answer = await client.post("/v1/transcribe", content=bytes(200_000), headers=PCM)
        assert refusal(answer) == (413, "too_large")
        assert await only_session(edge) == []
        answer = await client.post("/v1/transcribe", content=_slices(50), headers=PCM)
        assert refusal(answer) == (413, "too_large")
        assert await nothing_is_left(edge)


async def _slices(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(10_000)


async def test_a_refused_sender_is_cut_off(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that continues to send gets the error at once, and a close after a bound (SESS-10)."""
    monkeypatch.setattr("edge.server.request_body.LINGER_S", 0.2)
    async with replica(redis_url, max_upload_bytes=100_000) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"POST /v1/transcribe HTTP/1.1\r\nhost: x\r\ncontent-type: audio/l16\r\n"
                     b"content-length: 99999999\r\n\r\n")
        assert b" 413 " in await reader.readline()
        with contextlib.suppress(ConnectionError):
            assert b"too_large" in await reader.read()
        writer.close()


async def test_a_silent_client_is_given_up(edge: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that stops coming is refused after a bound, and leaves nothing behind (SESS-10)."""
    monkeypatch.setattr("edge.ingest.upload_reader.SILENCE_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /v1/transcribe HTTP/1.1\r\nhost: x\r\ncontent-type: audio/l16\r\n"
                 b"content-length: 100000\r\n\r\n" + bytes(1000))
    assert b" 400 " in await reader.readline()
    writer.close()
    assert await nothing_is_left(edge)


async def test_a_late_field_is_refused(edge: Replica) -> None:
    """A field behind a long recording is refused rather than ignored, one behind a short one is applied (LIVE-1)."""
    async with client_of(edge) as client:
        for size, refused in ((2 << 20, (400, "invalid_request")), (1000, (404, "unknown_session"))):
            body = (
                b'--x\r\nContent-Disposition: form-data; name="audio_file"; filename="a"\r\n'
                b"Content-Type: audio/l16\r\n\r\n" + bytes(size) + b"\r\n--x\r\n"
                b'Content-Disposition: form-data; name="session_id"\r\n\r\n'
                b"7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a\r\n--x--\r\n"
            )
            headers = {"content-type": "multipart/form-data; boundary=x"}
            assert refusal(await client.post("/live/transcribe", content=body, headers=headers)) == refused
    assert await nothing_is_left(edge)


async def test_a_draining_replica_refuses_recordings(edge: Replica) -> None:
    """While a replica shuts down it opens no session, and its status says so (SESS-8, LIVE-3)."""
    edge.core.is_draining = True
    async with client_of(edge) as client:
        assert refusal(await client.post("/v1/transcribe", content=b"ab", headers=PCM)) == (503, "going_away")
        assert refusal(await client.post("/live/start")) == (503, "going_away")
        assert (await client.get("/live/status")).json()["mode"] == "draining"


async def test_a_draining_replica_ends_uploads(edge: Replica) -> None:
    """A recording on its way to a replica that shuts down is refused, and leaves no session behind (SESS-8)."""
    sent = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(SECOND)
        await eventually_async(lambda: _held(edge, 1))
        edge.core.is_draining = True
        sent.set()
        yield bytes(SECOND)

    async with client_of(edge) as client:
        answer = await client.post("/v1/transcribe", content=body(), headers=PCM)
    assert sent.is_set()
    assert refusal(answer) == (503, "going_away")
    assert await nothing_is_left(edge)


async def test_a_full_redis_holds_the_recording(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis takes nothing the socket is read no further, and everything continues from there then (SESS-10)."""
    may_append = asyncio.Event()
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(400):
            taken += SECOND
            yield bytes(SECOND)

    async with replica(redis_url, result_timeout_s=0) as edge, client_of(edge) as client:
        append = edge.log.append

        async def full(appends: Sequence[Append]) -> list[Appended]:
            if not may_append.is_set():
                raise LogFullError("full")
            return await append(appends)

        monkeypatch.setattr(edge.log, "append", full)
        sending = asyncio.create_task(client.post("/live/transcribe", content=body(), headers=PCM))
        await eventually_async(lambda: taken > 0)
        before = -1
        while before != taken:  # until the sockets' own buffers are full
            before = taken
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await may_append.wait()
        assert taken < 400 * SECOND
        may_append.set()
        assert (await sending).status_code == 202
        stream = await only_session(edge)
    assert sum(len(entry.pcm or b"") for entry in stream) == 400 * SECOND


async def test_a_redis_that_stays_full_ends_the_request(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that accepts no writes for too long gives 503 with `Retry-After` (SESS-10)."""

    async def full(_: Sequence[Append]) -> list[Appended]:
        raise LogFullError("full")

    async with replica(redis_url, redis_outage_timeout_s=0.2) as edge, client_of(edge) as client:
        monkeypatch.setattr(edge.log, "append", full)
        answer = await client.post("/live/transcribe", content=bytes(SECOND), headers=PCM)
    assert refusal(answer) == (503, "log_unavailable")
    assert answer.headers["retry-after"]
    assert json.loads(answer.text)["detail"].startswith("Redis is full")


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["mediarecorder.webm", "mediarecorder.mp4"])
async def test_a_browser_s_recording_is_transcribed(redis_url: str, name: str) -> None:
    """What Chromium's MediaRecorder made is taken in one request, by type or by its bytes alone (LIVE-5, SESS-2)."""
    recorded = (RECORDINGS / name).read_bytes()
    async with replica(redis_url) as edge, client_of(edge) as client:
        typed = await client.post("/v1/transcribe", files={"audio_file": (name, recorded)})
        bare = await client.post("/v1/transcribe", content=recorded)
    assert typed.status_code == bare.status_code == 200, typed.text
    assert typed.json()["utterances"] == bare.json()["utterances"]
    assert 6 < typed.json()["audio_seconds"] < 9
    assert typed.json()["transcript"]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", sorted(FORMATS))
async def test_every_format_is_transcribed(redis_url: str, name: str) -> None:
    """Each format that is taken is known by its bytes and has the length that it was recorded with (LIVE-5, SESS-2)."""
    recorded = recording(name)
    async with replica(redis_url) as edge, client_of(edge) as client:
        answer = await client.post("/v1/transcribe", content=recorded)
    assert answer.status_code == 200, answer.text
    assert abs(answer.json()["audio_seconds"] - len(talk(16_000, 1)) / 16_000) < 0.3
    assert answer.json()["transcript"]


@pytest.mark.usefixtures("path")
async def test_samples_of_every_rate_are_taken(redis_url: str) -> None:
    """Bare samples are taken at each rate, mono and stereo, and last as long as their rate says (LIVE-5)."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        for rate_hz in (8_000, 16_000, 24_000, 44_100, 48_000):
            for channels in (1, 2):
                kind = f"audio/l16;rate={rate_hz};channels={channels}"
                content = bytes(2 * channels * rate_hz)
                answer = await client.post("/v1/transcribe", content=content, headers={"content-type": kind})
                assert (answer.json()["audio_seconds"], answer.json()["sample_rate"]) == (1.0, rate_hz)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("address", ["/v1/transcribe", "/live/transcribe"])
@pytest.mark.parametrize("body", [b"<html>no recording</html>", b"\x1aE\xdf\xa3" + bytes(5000)])
async def test_an_undecodable_body_is_refused(redis_url: str, address: str, body: bytes) -> None:
    """What can't be decoded is answered with 422 and why (LIVE-5)."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        answer = await client.post(address, content=body, headers=WEBM)
        assert refusal(answer) == (422, "invalid_audio")
        assert len(answer.json()["detail"]) > 10
        assert await edge.core.reservations.held() == 0


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
async def test_a_file_of_text_is_no_recording(redis_url: str, name: str) -> None:
    """A text that is sent by mistake, in any language and of any length, isn't taken for samples (LIVE-5)."""
    text = ("Überschrift — … " if name == "README.md" else "") + (ROOT / name).read_text(encoding="utf-8")
    async with replica(redis_url) as edge, client_of(edge) as client:
        for address in ("/v1/transcribe", "/batch/process"):
            files = {"file": (name, text.encode(), "application/octet-stream")}
            assert refusal(await client.post(address, files=files)) == (422, "invalid_audio")
