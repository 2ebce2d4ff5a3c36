"""The stream over real sockets: start, audio, acks, control messages, the end."""

import random
import uuid
from itertools import pairwise

import pytest

from eventlog.codec import decode_audio_event
from eventlog.events import Finalized, SessionSealed, SessionStarted
from eventlog.log import AudioEntry, Code
from eventlog.positions import OPENED, SEALED, START
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import FRAME_SAMPLES, RATE_HZ, Client, Replica, frame, replica
from tests.support.waiting import eventually_async


async def entries(edge: Replica, session_id: str) -> list[AudioEntry]:
    """A session's whole audio stream."""
    keys = edge.core.server.keys.of(session_id)
    found = await edge.log.read({keys: START}, max_bytes_each=1 << 26)
    return found.get(keys, [])


async def test_start_comes_first_with_a_fresh_id(edge: Replica) -> None:
    """Each connection first gets a session id of its own, a UUID v4, and where it starts (STITCH-1)."""
    ids = set()
    for _ in range(3):
        async with edge.connect() as client:
            start = await client.next()
            assert start["type"] == "session_start"
            assert (start["offset"], start["sample_rate"]) == (0, RATE_HZ)
            ids.add(start["session_id"])
    assert len(ids) == 3
    assert {uuid.UUID(one).version for one in ids} == {4}


async def test_settings_are_pinned(edge: Replica) -> None:
    """The options of the query string stand in the session's first event (OPS-1)."""
    query = "sample_rate=48000&channels=2&language=de&encoding=linear16&hangover_ms=300"
    async with edge.connect(query) as client:
        start = await client.next()
    [first] = await entries(edge, start["session_id"])
    assert first.position == OPENED
    event = decode_audio_event(first.event or b"")
    assert isinstance(event, SessionStarted)
    assert (event.sample_rate_hz, event.channels, event.language) == (48_000, 2, "de")
    assert event.segmenter == {"hangover_ms": 300}


async def test_acks_cover_all_and_are_never_far_apart(edge: Replica) -> None:
    """Acks rise, come at least every 250 ms of audio, and reach the end of the audio (SESS-1)."""
    async with edge.connect() as client:
        for number in range(20):
            await client.send(frame(number))
            if number % 4 == 3:  # one flush is acked at once, so the frames are sent bit by bit
                await client.acked((number - 1) * FRAME_SAMPLES)
        await client.acked(20 * FRAME_SAMPLES)
    offsets = [0, *(ack["offset"] for ack in client.of("ack"))]
    assert offsets == sorted(set(offsets))
    assert max(later - earlier for earlier, later in pairwise(offsets)) <= 5 * FRAME_SAMPLES


async def test_a_single_frame_is_acked(edge: Replica) -> None:
    """The last frame before a pause is acked without a further one."""
    async with edge.connect() as client:
        await client.send(frame(samples=100))
        await client.acked(100)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seed", [1, 2])
async def test_pieces_do_not_matter(edge: Replica, channels: int, seed: int) -> None:
    """Bytes cut anywhere, within samples too, are in the log as if sent in one piece."""
    chance = random.Random(seed)
    audio = chance.randbytes(40_000)
    async with edge.connect(f"channels={channels}") as client:
        start = await client.next()
        left = audio
        while left:
            size = chance.choice([0, 1, 3, 777, 3200])
            await client.send(left[:size])
            left = left[size:]
        await client.acked(len(audio) // 2 // channels)
    chunks = [entry for entry in await entries(edge, start["session_id"]) if entry.pcm is not None]
    assert b"".join(chunk.pcm or b"" for chunk in chunks) == audio
    offset = 0
    for chunk in chunks:
        offset += len(chunk.pcm or b"") // 2 // channels
        assert chunk.position == (offset, 0)


async def test_finalize_is_placed(edge: Replica) -> None:
    """A finalize stands in the log right after the audio before it, once however often it is asked for there."""
    async with edge.connect() as client:
        start = await client.next()
        await client.send(frame())
        await client.send("finalize")
        await client.send("finalize")
        await client.send(frame())
        await client.acked(2 * FRAME_SAMPLES)
    found = await entries(edge, start["session_id"])
    assert [entry.position for entry in found[1:]] == [(1600, 0), (1600, 1), (3200, 0)]
    assert decode_audio_event(found[2].event or b"") == Finalized()


async def test_stop_seals(edge: Replica) -> None:
    """A stop puts the end behind all audio, acks all of it, and the session can't be resumed any more."""
    async with edge.connect() as client:
        start = await client.next()
        await client.speak(3)
        await client.send("stop")
        assert (await client.until("session_end"))["audio_seconds"] == 0.3
        assert await client.closed() == 1000
    assert client.of("ack")[-1]["offset"] == 3 * FRAME_SAMPLES
    last = (await entries(edge, start["session_id"]))[-1]
    assert last.position == SEALED
    assert decode_audio_event(last.event or b"") == SessionSealed(reason="stop", offset_samples=3 * FRAME_SAMPLES)


async def test_a_stop_counts_though_its_client_leaves(edge: Replica) -> None:
    """Audio and stop that a client sent before it left are in the log, and its reservation is free (SAFE-1)."""
    async with edge.connect() as client:
        start = await client.next()
        await client.speak(3)
        await client.send("stop")
    await eventually_async(lambda: _sealed(edge, start["session_id"]))
    await eventually_async(lambda: _is_empty(edge))
    chunks = [entry for entry in await entries(edge, start["session_id"]) if entry.pcm]
    assert b"".join(chunk.pcm or b"" for chunk in chunks) == b"".join(map(frame, range(1, 4)))


async def _sealed(edge: Replica, session_id: str) -> bool:
    return (await entries(edge, session_id))[-1].position == SEALED


async def _is_empty(edge: Replica) -> bool:
    return not edge.core.connections and await edge.core.reservations.held() == 0


async def test_end_without_a_worker_gives_the_address(edge: Replica) -> None:
    """If the transcript isn't stitched in time, the end comes with its address instead (STITCH-4)."""
    async with edge.connect() as client:
        start = await client.next()
        await client.send("stop")
        end = await client.until("session_end")
    assert end["transcript"] is None
    assert end["transcript_url"] == f"/v1/sessions/{start['session_id']}/transcript"


async def test_keepalive_is_a_sign_of_life(edge: Replica) -> None:
    """A keepalive without audio counts as life by Redis's clock (SESS-7)."""
    async with edge.connect() as client:
        start = await client.next()
        keys = edge.core.server.keys.of(start["session_id"])
        await edge.core.server.execute("HSET", keys.session, "seen_ms", 1)
        await client.send("keepalive")
        await eventually_async(lambda: _seen_after(edge, keys.session, 1))


async def _seen_after(edge: Replica, key: str, then_ms: int) -> bool:
    return int(await edge.core.server.execute("HGET", key, "seen_ms")) > then_ms


@pytest.mark.usefixtures("path")
async def test_speech_becomes_finals_and_a_transcript(redis_url: str) -> None:
    """Finals come while the client speaks, and the end carries all of them joined (SESS-1, STITCH-4)."""
    async with replica(redis_url) as edge, edge.connect() as client:
        await spoken(client, utterances=2)
        await client.send("stop")
        end = await client.until("session_end")
        assert await client.closed() == 1000
    finals = client.of("final")
    assert [final["utterance"] for final in finals] == list(range(end["utterances"]))
    assert len(finals) >= 2
    assert end["transcript"] == " ".join(final["text"] for final in finals)
    assert all(final["start"] < final["end"] <= final["decided"] for final in finals)


async def test_a_cluster_serves_as_well(cluster_url: str) -> None:
    """On a Redis Cluster a session goes the same way, from its start to its transcript."""
    async with behind(cluster_url), replica(cluster_url) as edge, edge.connect() as client:
        await spoken(client, utterances=1)
        await client.send("stop")
        end = await client.until("session_end")
    assert end["transcript"] == " ".join(final["text"] for final in client.of("final"))
    assert end["utterances"] == len(client.of("final")) >= 1


@pytest.mark.usefixtures("path")
async def test_an_empty_session_ends_with_an_empty_transcript(redis_url: str) -> None:
    """A session without audio stitches to an empty transcript (STITCH-6)."""
    async with replica(redis_url) as edge, edge.connect() as client:
        await client.send("stop")
        end = await client.until("session_end")
    assert (end["reason"], end["transcript"], end["utterances"], end["audio_seconds"]) == ("stop", "", 0, 0.0)


@pytest.mark.usefixtures("path")
async def test_an_idle_session_ends_its_connection(redis_url: str) -> None:
    """A session ended from outside ends its connection with the reason and the transcript (SESS-7, STITCH-4)."""
    async with replica(redis_url) as edge, edge.connect() as client:
        start = await client.next()
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        assert await edge.log.seal(edge.core.server.keys.of(start["session_id"]), "idle") is Code.OK
        end = await client.until("session_end")
        assert (end["reason"], end["transcript"]) == ("idle", "")
        assert await client.closed() == 1000


async def spoken(client: Client, utterances: int) -> None:
    """Sends noise bursts with pauses between them, which the VAD takes for speech and silence."""
    chance = random.Random(7)
    for _ in range(utterances):
        for _ in range(10):
            await client.send(chance.randbytes(2 * FRAME_SAMPLES))
        for _ in range(15):
            await client.send(bytes(2 * FRAME_SAMPLES))


