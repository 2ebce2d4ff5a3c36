"""Containers as a browser's MediaRecorder makes them, piece by piece, by WebSocket and by requests."""

import itertools
import re
from typing import Any

import pytest

from eventlog.codec import decode_audio_event
from eventlog.events import Finalized, SessionSealed
from eventlog.positions import START
from tests.integration.edge.replicas import Replica, replica
from tests.support.speech import RECORDINGS, client_of, refusal, started
from tests.support.waiting import eventually_async

RECORDED = ("mediarecorder.webm", "mediarecorder.mp4")


def pieces(name: str) -> list[bytes]:
    """What `ondataavailable` gave, one after the other; their sizes stand in the recordings' own page."""
    page = (RECORDINGS / "README.md").read_text(encoding="utf-8")
    [sizes] = re.findall(rf"\| `{name}` .*\| ([\d ]+) \|", page)
    ends = list(itertools.accumulate(map(int, sizes.split())))
    data = (RECORDINGS / name).read_bytes()
    assert ends[-1] == len(data)
    return [data[first:last] for first, last in zip([0, *ends], ends, strict=False)]


async def whole(edge: Replica, name: str) -> list[dict[str, Any]]:
    """The utterances of the recording in one request."""
    async with client_of(edge) as client:
        answer = await client.post("/v1/transcribe", content=(RECORDINGS / name).read_bytes())
    found: list[dict[str, Any]] = answer.json()["utterances"]
    return found


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", RECORDED)
async def test_a_socket_takes_a_container(redis_url: str, name: str) -> None:
    """Binary frames of a container become the finals that the whole recording has, and acks count bytes (LIVE-5)."""
    async with replica(redis_url) as edge, edge.connect("encoding=container") as client:
        assert (await client.next())["offset"] == 0
        for piece in pieces(name):
            await client.send(piece)
        await client.acked(len((RECORDINGS / name).read_bytes()))
        await client.send("stop")
        end = await client.until("session_end")
        assert await client.closed() == 1000
        expected = await whole(edge, name)
    assert [final["text"] for final in client.of("final")] == [one["text"] for one in expected]
    assert (end["reason"], end["utterances"]) == ("stop", len(expected))
    assert 6 < end["audio_seconds"] < 9


@pytest.mark.usefixtures("path")
async def test_captions_come_while_a_browser_records(redis_url: str) -> None:
    """A partial or a final comes during the recording, from the pieces so far (LIVE-5)."""
    async with replica(redis_url) as edge, edge.connect("encoding=container") as client:
        *first, last = pieces("mediarecorder.webm")
        for piece in first[: len(first) * 2 // 3]:
            await client.send(piece)
        while not (client.of("partial") or client.of("final")):
            await client.next()
        for piece in [*first[len(first) * 2 // 3 :], last]:
            await client.send(piece)
        await client.send("stop")
        assert (await client.until("session_end"))["transcript"]


async def test_the_upload_holds_what_came(edge: Replica) -> None:
    """The bytes of a container are in the log as they came, its control events at their places (SAFE-1)."""
    async with edge.connect("encoding=container") as client:
        start = await client.next()
        await client.send(b"\x1aE\xdf")
        await client.send("finalize")
        await client.send(b"\xa3" * 70_000)
        await client.send("stop")
        await client.until("session_end")
    stream = edge.core.server.keys.of(start["session_id"]).upload
    found = (await edge.log.read({stream: START}, max_bytes_each=1 << 20))[stream]
    assert b"".join(entry.pcm or b"" for entry in found) == b"\x1aE\xdf" + b"\xa3" * 70_000
    assert decode_audio_event(found[2].event or b"") == Finalized()
    assert found[2].position == (3, 1)
    assert decode_audio_event(found[-1].event or b"") == SessionSealed(reason="stop", offset_samples=70_003)


@pytest.mark.usefixtures("path")
async def test_a_container_is_resumed(redis_url: str) -> None:
    """A browser that lost its connection continues by bytes, on another replica, and nothing is missing (SESS-9)."""
    data = (RECORDINGS / "mediarecorder.webm").read_bytes()
    async with replica(redis_url) as one, replica(redis_url) as other:
        async with one.connect("encoding=container") as client:
            start = await client.next()
            await client.send(data[:10_000])
            await client.acked(10_000)
            client.cut()
        query = f"session_id={start['session_id']}&resume_token={start['resume_token']}&next_utterance=0"
        async with other.connect(query) as client:
            assert (await client.next())["offset"] == 10_000
            await client.send(data[10_000:])
            await client.send("stop")
            end = await client.until("session_end")
        expected = await whole(other, "mediarecorder.webm")
    assert end["transcript"] == " ".join(one["text"] for one in expected)


@pytest.mark.usefixtures("path")
async def test_undecodable_audio_is_reported_on_the_socket(redis_url: str) -> None:
    """A container that can't be decoded ends its session with `invalid_audio` and why (LIVE-5)."""
    async with replica(redis_url) as edge, edge.connect("encoding=container") as client:
        await client.send(b"<html>no recording</html>")
        await client.send("stop")
        error = await client.until("error")
        end = await client.until("session_end")
        assert await client.closed() == 1008
    assert (error["code"], error["fatal"], end["reason"]) == ("invalid_audio", True, "failed")
    assert len(error["message"]) > 10


@pytest.mark.parametrize("limit_s", [1, 1.05])
async def test_a_session_that_is_too_long_is_ended(redis_url: str, limit_s: float) -> None:
    """Audio past the longest duration ends the session there, and its client gets `session_too_long` (SESS-10)."""
    async with replica(redis_url, max_session_s=limit_s, session_end_timeout_s=0.2) as edge, edge.connect() as client:
        await client.speak(15)
        assert (await client.until("error", code="session_too_long"))["fatal"] is False
        await client.until("session_end")
        assert await client.closed() == 1000
        assert client.of("ack")[-1]["offset"] == int(16_000 * limit_s)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", RECORDED)
async def test_requests_bring_a_container_piece_by_piece(redis_url: str, name: str) -> None:
    """Pieces posted to two replicas in turn give the transcript of the whole (LIVE-2, LIVE-5, LIVE-6)."""
    async with replica(redis_url) as one, replica(redis_url) as two, client_of(one) as here, client_of(two) as there:
        ways = itertools.cycle([here, there])
        session_id = await started(here, encoding="container")
        for piece in pieces(name):
            answer = await next(ways).post(f"/live/{session_id}/audio", files={"audio_file": piece})
            assert answer.status_code == 200, answer.text
        end = (await there.post(f"/live/{session_id}/stop")).json()
        expected = await whole(one, name)
    assert [result["text"] for result in end["results"]] == [final["text"] for final in expected]


@pytest.mark.usefixtures("path")
async def test_a_piece_is_answered_with_all_so_far(redis_url: str) -> None:
    """Each piece of a container is answered with all text so far, that of the open utterance provisional (LIVE-1)."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        session_id = await started(client, encoding="container")
        seen = []
        for piece in pieces("mediarecorder.webm"):
            answer = await client.post(f"/live/transcribe?session_id={session_id}", files={"audio_file": piece})
            assert answer.status_code == 200, answer.text
            seen.append(answer.json())
        end = (await client.post(f"/live/{session_id}/stop")).json()
    assert any(result["provisional"] for answer in seen for result in answer["results"])
    assert end["complete"]
    assert end["transcript"]


@pytest.mark.usefixtures("path")
async def test_an_undecodable_session_accepts_no_more_audio(redis_url: str) -> None:
    """After a piece that is no recording the session is over, and stopping it says why (LIVE-2, LIVE-5)."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        session_id = await started(client, encoding="container")
        await client.post(f"/live/{session_id}/audio", files={"audio_file": b"<html>no recording</html>" * 400})

        async def ended() -> bool:
            answer = await client.post(f"/live/{session_id}/audio", files={"audio_file": b"more"})
            return answer.status_code == 409 and refusal(answer)[1] == "session_ended"

        await eventually_async(ended)
        assert refusal(await client.post(f"/live/{session_id}/stop")) == (422, "invalid_audio")
        assert refusal(await client.post(f"/live/{session_id}/stop")) == (422, "invalid_audio")
