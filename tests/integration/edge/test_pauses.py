"""Clients whose frames stop, and clients that close their connection without a stop."""

import time
from collections.abc import Sequence

import httpx2
import pytest

from eventlog.codec import decode_audio_event
from eventlog.events import AudioEvent, Finalized, Paused, SessionSealed
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position
from processor.worker import Worker
from tests.integration.edge.replicas import FRAME_SAMPLES, Client, Replica, frame, replica
from tests.integration.edge.test_resume import resuming
from tests.support.deployment import Deployment
from tests.support.pcm import sentence
from tests.support.speech import RECORDINGS, client_of, started
from tests.support.waiting import eventually_async, lasting

FRAME_S = 0.1
LATER_MS = 1_000
"""A bound that is longer than an ack may take, so that a connection is cut before its pause is due."""


async def events(edge: Replica, session_id: str, *, upload: bool = False) -> list[tuple[Position, AudioEvent]]:
    """A session's control events after its start, with their positions."""
    keys = edge.core.server.keys.of(session_id)
    stream = keys.upload if upload else keys
    entries = (await edge.log.read({stream: START}, max_bytes_each=1 << 26)).get(stream, [])
    found = [(entry.position, decode_audio_event(entry.event)) for entry in entries if entry.event is not None]
    return found[1:]


async def paused_at(edge: Replica, session_id: str) -> list[int]:
    """The offsets at which the session was paused."""
    return [position.offset for position, event in await events(edge, session_id) if isinstance(event, Paused)]


async def ended(edge: Replica, session_id: str) -> str:
    """Why the session's audio was ended; empty if it wasn't."""
    found = [one.reason for _, one in await events(edge, session_id) if isinstance(one, SessionSealed)]
    return found[0] if found else ""


async def speak(client: Client, audio: bytes) -> float:
    """Speaks at the speed of speech; returns the monotonic time of the last frame."""
    for first in range(0, len(audio), 2 * FRAME_SAMPLES):
        await client.send(audio[first : first + 2 * FRAME_SAMPLES])
        await lasting(FRAME_S)
    return time.monotonic() - FRAME_S


def words(number: str, seconds: float) -> bytes:
    """The first seconds of a bundled sentence, which end amid its speech."""
    return sentence(number)[: int(16_000 * seconds)].tobytes()


@pytest.mark.usefixtures("path")
async def test_speech_before_a_pause_becomes_final_soon(redis_url: str) -> None:
    """Speech that frames leave amid a word is final 2.5 s after the last one, and more speech follows (WORD-5)."""
    async with replica(redis_url) as edge, edge.connect() as client:
        start = await client.next()
        waited_s, ends = [], []
        for number in ("0880", "0930"):
            last_at = await speak(client, words(number, 1.5))
            await client.until("final")
            waited_s.append(time.monotonic() - last_at)
            ends.append(len(client.of("final")))
        first, second = client.of("final")
        # One stall of a busy machine must not count as the edge's.
        assert min(waited_s) <= 2.5
        assert min(waited_s) >= 2.0
        assert ends == [1, 2]
        assert first["end"] <= second["start"]
        assert await paused_at(edge, start["session_id"]) == [24_000, 48_000]


async def test_a_pause_is_stated_once(redis_url: str) -> None:
    """However long no frame comes, one pause is in the log, at the end of the audio before it (WORD-5)."""
    async with replica(redis_url, pause_ms=300) as edge, edge.connect() as client:
        start = await client.next()
        for number in (1, 2):
            await client.send(frame(number))
            await eventually_async(lambda: paused_at(edge, start["session_id"]))
            await lasting(1.0)
        assert await paused_at(edge, start["session_id"]) == [FRAME_SAMPLES, 2 * FRAME_SAMPLES]
        [(_, first), (_, second)] = await events(edge, start["session_id"])
        assert isinstance(first, Paused)
        assert isinstance(second, Paused)
        assert min(first.silent_ms, second.silent_ms) >= 300


async def test_a_finalize_needs_no_pause(redis_url: str) -> None:
    """After a finalize no pause follows: nothing is open."""
    async with replica(redis_url, pause_ms=300) as edge, edge.connect() as client:
        start = await client.next()
        await client.send(frame())
        await client.send("finalize")
        await client.acked(FRAME_SAMPLES)
        await lasting(1.0)
        assert [event for _, event in await events(edge, start["session_id"])] == [Finalized()]


async def test_no_pauses_if_none_are_wanted(redis_url: str) -> None:
    """With a bound of 0 frames may stop for as long as they like."""
    async with replica(redis_url, pause_ms=0) as edge, edge.connect() as client:
        start = await client.next()
        await client.send(frame())
        await client.acked(FRAME_SAMPLES)
        await lasting(1.0)
        assert await events(edge, start["session_id"]) == []


async def test_a_resumed_client_that_stays_silent_has_a_pause(redis_url: str) -> None:
    """What a broken connection left open ends when the resumed one sends nothing (WORD-5)."""
    async with replica(redis_url, pause_ms=LATER_MS) as edge:
        async with edge.connect() as client:
            start = await client.next()
            await client.send(frame())
            await client.acked(FRAME_SAMPLES)
            client.cut()
        async with edge.connect(resuming(start)) as client:
            await client.next()
            await eventually_async(lambda: paused_at(edge, start["session_id"]))
        assert await paused_at(edge, start["session_id"]) == [FRAME_SAMPLES]


async def test_a_broken_connection_has_a_pause_later(redis_url: str) -> None:
    """A client that is cut off and does not resume has its utterance ended all the same, and its session continues."""
    async with replica(redis_url, pause_ms=LATER_MS, close_grace_s=0.1) as edge:
        async with edge.connect() as client:
            start = await client.next()
            await client.send(frame())
            await client.acked(FRAME_SAMPLES)
            client.cut()
        await eventually_async(lambda: len(edge.core.pauses) == 1)
        await eventually_async(lambda: paused_at(edge, start["session_id"]))
        await eventually_async(lambda: len(edge.core.pauses) == 0)
        assert await paused_at(edge, start["session_id"]) == [FRAME_SAMPLES]
        assert await ended(edge, start["session_id"]) == ""


async def test_a_resume_makes_the_older_connections_pause_void(redis_url: str) -> None:
    """A client that resumes in time continues its sentence: the pause of its broken connection is not stated."""
    async with (
        replica(redis_url, pause_ms=LATER_MS, close_grace_s=0.1) as first, replica(redis_url, pause_ms=0) as second
    ):  # fmt: skip
        async with first.connect() as client:
            start = await client.next()
            await client.send(frame())
            await client.acked(FRAME_SAMPLES)
            client.cut()
        async with second.connect(resuming(start)) as client:
            await client.next()
            await client.send(frame(2))
            await eventually_async(lambda: len(first.core.pauses) == 0)
            assert await events(second, start["session_id"]) == []


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_close_in_order_ends_the_utterance_at_once_and_the_session_soon(redis_url: str, code: int) -> None:
    """A client that closes without a stop has its last words at once, and its session ends after the grace (WORD-5)."""
    async with replica(redis_url, close_grace_s=1.0) as edge, client_of(edge) as http:
        async with edge.connect() as client:
            start = await client.next()
            await client.send(words("0880", 1.5))
            await client.acked(24_000)
            await client.socket.close(code)
        closed_at = time.monotonic()
        assert await eventually_async(lambda: paused_at(edge, start["session_id"])) == [24_000]
        url = f"/v1/sessions/{start['session_id']}"
        assert len(await eventually_async(lambda: finals(http, url))) == 1
        assert await ended(edge, start["session_id"]) == "" or time.monotonic() - closed_at > 1.0
        session = await eventually_async(lambda: closed_session(http, url))
        assert session["reason"] == "closed"
        assert time.monotonic() - closed_at >= 1.0
        assert await edge.core.reservations.held() == 0


async def finals(http: httpx2.AsyncClient, url: str) -> Sequence[object]:
    """The finals of a session so far."""
    found: Sequence[object] = (await http.get(f"{url}/transcript")).json()["utterances"]
    return found


async def closed_session(http: httpx2.AsyncClient, url: str) -> dict[str, object]:
    """A session's state once it is closed; empty before."""
    found: dict[str, object] = (await http.get(url)).json()
    return found if found["state"] == "CLOSED" else {}


async def test_a_silent_session_that_is_closed_ends_as_well(redis_url: str) -> None:
    """A client that never sent anything and closes leaves no session behind, and no pause in it."""
    async with replica(redis_url, close_grace_s=0.2) as edge:
        async with edge.connect() as client:
            start = await client.next()
        assert await eventually_async(lambda: ended(edge, start["session_id"])) == "closed"
        assert await paused_at(edge, start["session_id"]) == []


async def test_a_resume_within_the_grace_cancels_the_end(redis_url: str) -> None:
    """A page that is loaded again resumes its session, on any replica, and it does not end (WORD-5)."""
    async with replica(redis_url, close_grace_s=1.0) as first, replica(redis_url, close_grace_s=1.0) as second:
        async with first.connect() as client:
            start = await client.next()
            await client.send(frame())
            await client.acked(FRAME_SAMPLES)
        await eventually_async(lambda: has_deadline(first, start["session_id"]))
        async with second.connect(resuming(start)) as client:
            assert (await client.next())["offset"] == FRAME_SAMPLES
            await eventually_async(lambda: len(first.core.closer) == 0)
            await client.send(frame(2))
            await client.acked(2 * FRAME_SAMPLES)
            assert await ended(second, start["session_id"]) == ""


async def has_deadline(edge: Replica, session_id: str) -> bool:
    """Whether the log has the deadline of a session whose client has closed."""
    keys = edge.core.server.keys.of(session_id)
    return bool(await edge.core.server.execute("HEXISTS", keys.session, "closes"))


async def test_a_broken_connection_leaves_the_session_open(redis_url: str) -> None:
    """A connection that breaks keeps the time of idle sessions, however short the grace is."""
    async with replica(redis_url, close_grace_s=0.0, pause_ms=0) as edge:
        async with edge.connect() as client:
            start = await client.next()
            await client.send(frame())
            await client.acked(FRAME_SAMPLES)
            client.cut()
        await eventually_async(lambda: not edge.core.connections)
        await lasting(0.5)
        assert await ended(edge, start["session_id"]) == ""
        assert not await has_deadline(edge, start["session_id"])


@pytest.mark.parametrize("server", ["redis_url", "cluster_url"])
@pytest.mark.parametrize("is_resumed", [False, True])
async def test_the_end_comes_without_the_edge(request: pytest.FixtureRequest, server: str, is_resumed: bool) -> None:  # noqa: FBT001
    """A session closed in order ends after its grace though its edge died, unless another resumes it (WORD-5)."""
    url: str = request.getfixturevalue(server)
    async with Deployment(url) as deployment, replica(url) as second:
        janitor = (await worker_of(deployment))._janitor
        async with replica(url, close_grace_s=0.3) as first:
            async with first.connect() as client:
                start = await client.next()
                await client.send(frame())
                await client.acked(FRAME_SAMPLES)
            await eventually_async(lambda: has_deadline(first, start["session_id"]))
        # From here on no edge knows of it.
        if is_resumed:
            async with second.connect(resuming(start)) as client:
                await client.next()
                await lasting(0.5)
                await janitor.sweep()
                assert await ended(second, start["session_id"]) == ""
        else:
            await lasting(0.5)
            await janitor.sweep()
            assert await ended(second, start["session_id"]) == "closed"


async def worker_of(deployment: Deployment) -> Worker:
    """A worker that is not started, so that its janitor sweeps when the test says so."""
    return await deployment.worker(idle_ms=60_000, capacity=1, sweep_s=1)


@pytest.mark.usefixtures("path")
async def test_a_container_has_its_pause_behind_all_of_its_audio(redis_url: str) -> None:
    """A closed recorder's last words are final before its session ends, as a socket's of samples are (WORD-5)."""
    async with replica(redis_url, close_grace_s=2.0) as edge, client_of(edge) as http:
        data = (RECORDINGS / "mediarecorder.webm").read_bytes()
        async with edge.connect("encoding=container") as client:
            start = await client.next()
            await client.send(data)
            await client.acked(len(data))
        paused = await eventually_async(lambda: paused_at(edge, start["session_id"]))
        audio = await edge.log.read_position(edge.core.server.keys.of(start["session_id"]))
        assert audio is not None
        assert paused == [audio.head.offset]
        url = f"/v1/sessions/{start['session_id']}"
        assert (await eventually_async(lambda: closed_session(http, url)))["reason"] == "closed"


@pytest.mark.parametrize("encoding", ["linear16", "container"])
async def test_a_client_by_requests_has_its_pause_too(redis_url: str, encoding: str) -> None:
    """Once the chunk that would follow the last one is overdue, a pause is stated, and only one (WORD-5)."""
    async with replica(redis_url, pause_ms=300) as edge, client_of(edge) as http:
        session_id = await started(http, encoding=encoding)
        for number in (1, 2):
            await http.post(f"/live/{session_id}/audio", content=frame(number))
            [(keys, one)] = edge.core.pauses._silent.items()
            edge.core.pauses._silent[keys] = one._replace(due_at=time.monotonic() + 0.3)  # not 15 s for a container
            await eventually_async(lambda: len(edge.core.pauses) == 0)
        found = await events(edge, session_id, upload=encoding == "container")
        assert [type(event) for _, event in found] == [Paused, Paused]


async def test_the_next_request_makes_the_pause_void_on_any_replica(redis_url: str) -> None:
    """A chunk that another replica takes in time is no pause for the one that took the chunk before."""
    async with (
        replica(redis_url, pause_ms=500) as first, replica(redis_url, pause_ms=0) as second,
        client_of(first) as one, client_of(second) as other,
    ):  # fmt: skip
        session_id = await started(one)
        await one.post(f"/live/{session_id}/audio", content=frame())
        await other.post(f"/live/{session_id}/audio", content=frame(2))
        await eventually_async(lambda: len(first.core.pauses) == 0)
        assert await events(first, session_id) == []


async def test_an_outage_gives_those_that_are_gone_their_time_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that could not resume while the log was away is not paused at the very moment of its return."""
    async with replica(redis_url, pause_ms=LATER_MS, close_grace_s=0.1) as edge:
        async with edge.connect() as client:
            start = await client.next()
            await client.send(frame())
            await client.acked(FRAME_SAMPLES)
            client.cut()
        await eventually_async(lambda: len(edge.core.pauses) == 1)
        with monkeypatch.context() as outage:
            outage.setattr(edge.log, "append", unavailable)
            await lasting(1.5 * LATER_MS / 1000)
        async with edge.connect(resuming(start)) as client:
            await client.next()
            await client.send(frame(2))
            await client.acked(2 * FRAME_SAMPLES)
            client.cut()
        assert FRAME_SAMPLES not in await paused_at(edge, start["session_id"])


async def test_an_outage_is_no_pause(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the log takes nothing, and so the socket is not read, a client that continues to send has no pause."""
    async with replica(redis_url, pause_ms=LATER_MS, max_unacked_bytes=3_200) as edge, edge.connect() as client:
        start = await client.next()
        await client.send(frame())
        await client.acked(FRAME_SAMPLES)
        with monkeypatch.context() as outage:
            outage.setattr(edge.log, "append", unavailable)
            await speak(client, bytes(2 * 18 * FRAME_SAMPLES))
        await speak(client, bytes(2 * 5 * FRAME_SAMPLES))
        await client.acked(24 * FRAME_SAMPLES)
        client.cut()
        assert await paused_at(edge, start["session_id"]) == []


async def unavailable(*_: object) -> None:
    """A call of a log that can't be reached."""
    raise LogUnavailableError("cut off by the test")
