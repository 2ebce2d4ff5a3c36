"""Audio by plain requests: alone, chunk by chunk, over several replicas."""

import asyncio
import itertools
import re
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from edge.session.reservations import Reservation
from eventlog.codec import decode_audio_event
from eventlog.events import SessionSealed
from eventlog.log import AudioEntry, Code
from eventlog.positions import START
from tests.integration.edge.replicas import FRAME_SAMPLES, RATE_HZ, Replica, replica
from tests.support.speech import PCM, SECOND, chunks, client_of, refusal, speech, started
from tests.support.waiting import eventually_async

FORM = {"content-type": "multipart/form-data; boundary=x"}
UNKNOWN_ID = str(uuid.UUID(int=1, version=4))


@pytest.fixture
async def http(edge: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the one edge."""
    async with client_of(edge) as client:
        yield client


async def pcm_of(edge: Replica, session_id: str) -> bytes:
    """What a session's audio stream holds, each entry placed where the one before it ends."""
    offset, found = 0, []
    for entry in await entries(edge, session_id):
        if entry.pcm is not None:
            offset += len(entry.pcm) // 2
            found.append(entry.pcm)
            assert entry.position.offset == offset
    return b"".join(found)


async def entries(edge: Replica, session_id: str) -> list[AudioEntry]:
    """A session's whole audio stream."""
    keys = edge.core.server.keys.of(session_id)
    return (await edge.log.read({keys: START}, max_bytes_each=1 << 26)).get(keys, [])


@pytest.mark.usefixtures("path")
async def test_a_recording_alone_is_answered_with_its_results(http: httpx2.AsyncClient) -> None:
    """A request without a session answers with every utterance of its recording, none provisional (LIVE-1)."""
    answer = await http.post("/live/transcribe", files={"audio_file": ("a.pcm", speech(2), "audio/l16")})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["complete"], body["ended"], body["reason"], len(body["results"])) == (True, True, "stop", 2)
    for result in body["results"]:
        assert set(result) >= {"text", "speaker", "start", "end", "confidence"}
        assert not result["provisional"]
        assert result["start"] < result["end"]
    assert body["transcript"] == " ".join(result["text"] for result in body["results"])


@pytest.mark.usefixtures("path")
async def test_a_chunk_is_answered_with_the_current_transcript(http: httpx2.AsyncClient) -> None:
    """A chunk that ends within an utterance is answered with it as provisional, and forces no boundary (LIVE-1)."""
    audio = speech(2)
    whole = (await http.post("/live/transcribe", content=audio, headers=PCM)).json()["results"]
    session_id = await started(http)
    seen: list[list[dict[str, Any]]] = []
    for chunk in chunks(audio, SECOND // 2):
        answer = await http.post(
            "/live/transcribe", files={"audio_file": chunk}, data={"session_id": session_id}
        )
        assert answer.status_code == 200
        assert (answer.json()["session_id"], answer.json()["ended"]) == (session_id, False)
        seen.append(answer.json()["results"])
    first_of_the_second = seen[5]
    assert [one["provisional"] for one in first_of_the_second] == [False, True]
    assert first_of_the_second[0] == whole[0]
    assert first_of_the_second[1]["start"] == whole[1]["start"]
    assert seen[-1] == whole


@pytest.mark.usefixtures("path")
async def test_a_session_runs_by_requests(http: httpx2.AsyncClient) -> None:
    """A session is started, fed, read and stopped by requests, and its end is its transcript (LIVE-2)."""
    session_id = await started(http)
    url, end = f"/live/{session_id}", 0
    for chunk in chunks(speech(2)):
        answer = await http.post(f"{url}/audio", content=chunk, headers=PCM)
        end += len(chunk)
        assert answer.json() == {"session_id": session_id, "offset": end, "end": end}

    async def finals() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await http.get(f"{url}/results")).json()["results"]
        return found

    await eventually_async(lambda: _has(finals, 2))
    stopped = await http.post(f"{url}/stop")
    assert stopped.status_code in {200, 202}
    await eventually_async(lambda: _is(http, f"{url}/stop", 200))
    stopped = (await http.post(f"{url}/stop")).json()
    assert (stopped["reason"], stopped["complete"], stopped["results"]) == ("stop", True, await finals())
    assert refusal(await http.post(f"{url}/audio", content=b"ab", headers=PCM)) == (409, "session_ended")
    assert refusal(await http.post(f"/live/transcribe?session_id={session_id}", content=b"ab")) == (
        409, "session_ended",
    )  # fmt: skip


async def _has(look: Callable[[], Awaitable[list[Any]]], count: int) -> bool:
    return len(await look()) == count


async def _is(client: httpx2.AsyncClient, url: str, status: int) -> bool:
    return (await client.post(url)).status_code == status


async def test_a_retry_changes_nothing(edge: Replica, http: httpx2.AsyncClient) -> None:
    """A chunk sent again with its offset is answered as the first time, and is in the log once (LIVE-2)."""
    session_id = await started(http)
    audio = speech(1)
    for first in (0, SECOND, 0, SECOND, SECOND // 2, 2 * SECOND):
        chunk = audio[first : first + SECOND]
        last = first + len(chunk)
        by_header = {**PCM, "content-range": f"bytes {first}-{last - 1}/*"}
        for address, headers in ((f"/live/{session_id}/audio", by_header),
                                 (f"/live/{session_id}/audio?offset={first}", PCM)):
            answer = await http.post(address, content=chunk, headers=headers)
            assert (answer.status_code, answer.json()["offset"]) == (200, last)
    assert await pcm_of(edge, session_id) == audio


async def test_a_gap_is_refused(edge: Replica, http: httpx2.AsyncClient) -> None:
    """A chunk that begins after the end of the audio is refused with that end (LIVE-2)."""
    session_id = await started(http)
    await http.post(f"/live/{session_id}/audio", content=bytes(3200), headers=PCM)
    answer = await http.post(f"/live/{session_id}/audio?offset=6400", content=bytes(3200), headers=PCM)
    assert refusal(answer) == (409, "invalid_offset")
    assert "3200" in answer.json()["detail"]
    assert len(await pcm_of(edge, session_id)) == 3200


async def test_concurrent_chunks_stay_complete(redis_url: str) -> None:
    """Chunks that come at the same time on several replicas are each in the log whole and once (LIVE-6)."""
    async with replica(redis_url) as one, replica(redis_url) as two, client_of(one) as here, client_of(two) as there:
        session_id = await started(here)
        sent = [number.to_bytes(2, "little") * 50_000 for number in range(20)]  # two entries each
        ways = itertools.cycle([here, there])
        await asyncio.gather(
            *(next(ways).post(f"/live/{session_id}/audio", content=chunk, headers=PCM) for chunk in sent)
        )
        found = await pcm_of(one, session_id)
    assert len(found) == sum(map(len, sent))
    counts = {number: found.count(number.to_bytes(2, "little") * 10_000) for number in range(20)}
    assert set(counts.values()) == {5}


@pytest.mark.usefixtures("path")
async def test_replicas_behind_a_balancer_act_as_one(redis_url: str) -> None:
    """Three replicas, each request on the next of them, give the results that one gives (LIVE-6)."""
    async with (
        replica(redis_url, name="one") as one, replica(redis_url, name="two") as two,
        replica(redis_url, name="three") as three,
    ):  # fmt: skip
        async with client_of(one) as client:
            alone = await conversation(client)
        async with balanced(one, two, three) as client:
            assert await conversation(client) == alone
            await eventually_async(lambda: _reports(client, replica_friendly=True, replicas=3))


async def _reports(client: httpx2.AsyncClient, **fields: object) -> bool:
    status: dict[str, object] = (await client.get("/live/status")).json()
    return fields.items() <= status.items()


async def conversation(client: httpx2.AsyncClient) -> list[Any]:
    """The messages to a client that brings two utterances, apart from ids."""
    results: list[Any] = []
    session_id = await started(client)
    for chunk in chunks(speech(2)):
        answer = await client.post(f"/live/transcribe?session_id={session_id}", content=chunk, headers=PCM)
        results.append(answer.json()["results"])
    stopped = (await client.post(f"/live/{session_id}/stop")).json()
    return [*results, stopped["results"], stopped["transcript"], stopped["complete"]]


class balanced:  # noqa: N801 - reads as a function
    """A client of a plain round-robin balancer of TCP connections over replicas; each request takes a new one."""

    def __init__(self, *edges: Replica) -> None:
        """Balance over `edges`."""
        self._ports = itertools.cycle([edge.port for edge in edges])

    async def __aenter__(self) -> httpx2.AsyncClient:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, family=socket.AF_INET)
        port = self._server.sockets[0].getsockname()[1]
        self._client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=60, headers={"connection": "close"}
        )
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        self._server.close()
        await self._server.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_edge, to_edge = await asyncio.open_connection("127.0.0.1", next(self._ports))
        await asyncio.gather(_piped(reader, to_edge), _piped(from_edge, writer))


async def _piped(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    sink.close()


async def test_status_describes_the_deployment(edge: Replica, http: httpx2.AsyncClient) -> None:
    """The status names version, engine and exactly the operations that answer, and counts live sessions (LIVE-3)."""
    await started(http)
    status = (await http.get("/live/status")).json()
    assert (status["mode"], status["engine"], status["active_sessions"]) == ("serving", "mock", 1)
    assert status["version"] == edge.core.settings.version
    for endpoint in status["endpoints_available"]:
        method, _, address = endpoint.partition(" ")
        answer = await http.request(method, address.replace("{session_id}", UNKNOWN_ID))
        assert answer.status_code not in {404, 405} or answer.json()["code"] == "unknown_session", endpoint
    assert len(status["endpoints_available"]) == 7


async def test_each_request_renews_the_session(redis_url: str) -> None:
    """A session's place is held by its requests and free after its end (SESS-6)."""
    async with replica(redis_url, max_sessions=1, session_end_timeout_s=0) as edge, client_of(edge) as client:
        session_id = await started(client)
        assert refusal(await client.post("/live/start")) == (429, "session_limit_exceeded")
        await edge.core.reservations.release([Reservation(session_id, "")])  # as if it had lapsed
        await client.post(f"/live/{session_id}/audio", content=b"ab", headers=PCM)
        assert await edge.core.reservations.held() == 1
        await client.post(f"/live/{session_id}/stop")
        assert await edge.core.reservations.held() == 0


@pytest.mark.parametrize(
    ("address", "content", "headers", "refused"),
    [
        ("/live/{unknown}/audio", b"ab", PCM, (404, "unknown_session")),
        ("/live/nonsense/audio", b"ab", PCM, (404, "unknown_session")),
        ("/live/transcribe?session_id={unknown}", b"ab", PCM, (404, "unknown_session")),
        ("/live/{unknown}/stop", b"", PCM, (404, "unknown_session")),
        ("/live/{known}/audio", b"abc", PCM, (400, "invalid_request")),
        ("/live/{known}/audio?offset=1", b"ab", PCM, (400, "invalid_request")),
        ("/live/{known}/audio?offset=-2", b"ab", PCM, (400, "invalid_query")),
        ("/live/{known}/audio", b"ab", {"content-range": "bytes 0-9/*"}, (400, "invalid_request")),
        ("/live/{known}/audio", b"ab", {"content-range": "seconds 1-2"}, (400, "invalid_request")),
        ("/live/{known}/audio?offset=2", b"ab", {"content-range": "bytes 0-1/*"}, (400, "invalid_request")),
        ("/live/{known}/audio", b"ab", {"content-type": "multipart/form-data"}, (400, "invalid_request")),
        ("/live/{known}/audio", b"--x\r\n", FORM, (400, "invalid_request")),
        ("/live/start", b"[]", {}, (400, "invalid_request")),
        ("/live/start", b'{"sample_rate":11025}', {}, (400, "invalid_request")),
        ("/live/start?sample_rate=11025", b"", {}, (400, "invalid_sample_rate")),
        ("/live/start", b"\xff", {}, (400, "invalid_request")),
        ("/live/start?language=!", b'{"language":"en"}', {}, (400, "invalid_request")),
        ("/live/transcribe?language=!", b"ab", PCM, (400, "invalid_language")),
        ("/live/transcribe", b"{}", {"content-type": "application/json"}, (400, "invalid_request")),
        ("/live/transcribe", b"", {"content-type": "audio/webm"}, (422, "invalid_audio")),
    ],
)
async def test_each_mistake_has_its_error_code(
    edge: Replica, address: str, content: bytes, headers: dict[str, str], refused: tuple[int, str]
) -> None:
    """Each malformed request is refused with its own code, and changes nothing (LIVE-2, SAFE-4)."""
    async with client_of(edge) as http:
        known = await started(http)
        answer = await http.post(address.format(unknown=UNKNOWN_ID, known=known), content=content, headers=headers)
    assert refusal(answer) == refused
    assert await pcm_of(edge, known) == b""
    assert await edge.core.reservations.held() == 1


async def test_a_socket_s_session_accepts_no_requests(edge: Replica, http: httpx2.AsyncClient) -> None:
    """Requests can't append to a session that a WebSocket feeds, which counts on being alone (SAFE-1)."""
    async with edge.connect() as client:
        session_id = (await client.next())["session_id"]
        for address in (f"/live/{session_id}/audio", f"/live/transcribe?session_id={session_id}"):
            assert refusal(await http.post(address, content=b"ab", headers=PCM)) == (409, "transport_mismatch")
        assert refusal(await http.post(f"/live/{session_id}/stop")) == (409, "transport_mismatch")
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)


async def test_a_session_that_is_too_long_is_ended(redis_url: str) -> None:
    """What goes over the longest duration is not taken, and the session is ended there (SESS-10)."""
    async with replica(redis_url, max_session_s=1, session_end_timeout_s=0) as edge, client_of(edge) as client:
        session_id = await started(client)
        answer = await client.post(f"/live/{session_id}/audio", content=bytes(3 * SECOND), headers=PCM)
        assert refusal(answer) == (409, "session_too_long")
        assert len(await pcm_of(edge, session_id)) == SECOND
        last = decode_audio_event((await entries(edge, session_id))[-1].event or b"")
        assert last == SessionSealed(reason="limit", offset_samples=RATE_HZ)
        assert await edge.core.reservations.held() == 0


async def test_results_of_a_session_that_ends_meanwhile_are_complete(edge: Replica, http: httpx2.AsyncClient) -> None:
    """A session ended from outside refuses further audio as ended (SESS-7)."""
    session_id = await started(http)
    assert await edge.log.seal(edge.core.server.keys.of(session_id), "idle") is Code.OK
    answer = await http.post(f"/live/{session_id}/audio", content=b"ab", headers=PCM)
    assert refusal(answer) == (409, "session_ended")


@pytest.mark.usefixtures("path")
async def test_the_same_audio_has_the_same_label_if_asked_for(redis_url: str) -> None:
    """With labels by hash two replicas give an utterance the same one, whichever session it is in (LIVE-4)."""
    labels = []
    for _ in range(2):
        async with replica(redis_url, speaker_labels="hash") as edge, client_of(edge) as client:
            answer = await client.post("/v1/transcribe", content=speech(1), headers=PCM)
            labels.append([one["speaker"] for one in answer.json()["utterances"]])
    assert labels[0] == labels[1] != []
    assert all(re.fullmatch("speaker-[0-9a-f]{4}", label) for label in labels[0])
