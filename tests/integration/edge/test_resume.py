"""Resuming after the connection, the replica or the log failed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from edge.session.reservations import Reservation
from edge.streams.fan_out import FeedCursor, Subscriber
from eventlog.codec import decode_audio_event
from eventlog.events import HoleFound
from eventlog.keys import RunKeys, SessionKeys, reservations, tenant_reservations
from eventlog.log import Append, AudioEntry, Code
from eventlog.positions import START, Position
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from tests.integration.edge.replicas import FRAME_SAMPLES, Client, Replica, frame, replica
from tests.integration.edge.tokens import NOW_S, bearer, guarded, token
from tests.support.servers import Server
from tests.support.waiting import eventually_async


def resuming(start: dict[str, str], more: str = "") -> str:
    """The query string that resumes a session."""
    return f"session_id={start['session_id']}&resume_token={start['resume_token']}{more}"


async def chunks(edge: Replica, session_id: str) -> list[AudioEntry]:
    """The session's entries after its start."""
    keys = edge.core.server.keys.of(session_id)
    return (await edge.log.read({keys: START}, max_bytes_each=1 << 26)).get(keys, [])[1:]


async def pcm(edge: Replica, session_id: str) -> bytes:
    """The session's audio."""
    return b"".join(entry.pcm or b"" for entry in await chunks(edge, session_id))


async def test_another_replica_continues(redis_url: str) -> None:
    """A dropped client resumes on any replica from the last acked offset, and nothing is lost or doubled (SESS-9)."""
    async with replica(redis_url) as first, replica(redis_url) as second:
        async with first.connect() as client:
            start = await client.next()
            await client.speak(3)
            await client.acked(3 * FRAME_SAMPLES)
            client.cut()
        async with second.connect(resuming(start)) as client:
            again = await client.next()
            assert (again["session_id"], again["offset"]) == (start["session_id"], 3 * FRAME_SAMPLES)
            await client.speak(2, first=4)
            await client.acked(5 * FRAME_SAMPLES)
        assert await pcm(second, start["session_id"]) == b"".join(map(frame, range(1, 6)))


async def test_the_older_connection_is_superseded(redis_url: str) -> None:
    """A resume while the older connection lives closes that one, and only that one."""
    async with replica(redis_url) as first, replica(redis_url) as second, first.connect() as older:
        start = await older.next()
        async with second.connect(resuming(start)) as newer:
            await newer.next()
            assert (await older.until("error"))["code"] == "superseded"
            assert await older.closed() == 1008
            await newer.speak(1)
            await newer.acked(FRAME_SAMPLES)


@pytest.mark.parametrize(("query", "text", "code"), [
    ("&sample_rate=8000", token(), "settings_mismatch"),
    ("&encoding=container", token(), "settings_mismatch"),
    ("&channels=2", token(), "settings_mismatch"),
    ("&language=de", token(), "settings_mismatch"),
    ("&next_utterance=x", token(), "invalid_next_utterance"),
    ("x", token(), "invalid_resume_token"),
    ("", token(tenant_id="other"), "unknown_session"),
    ("", token(scope="read"), "forbidden"),
    ("", token(exp=NOW_S - 1), "unauthorized"),
])  # fmt: skip
async def test_a_refused_resume_changes_nothing(redis_url: str, query: str, text: str, code: str) -> None:
    """A refused client, or one that asks for other settings, leaves the older connection unchanged (SESS-9, SAFE-4)."""
    async with guarded(redis_url) as edge, edge.connect(additional_headers=bearer(token())) as older:
        start = await older.next()
        key = edge.core.server.keys.of(start["session_id"]).session
        before = await edge.core.server.execute("HGETALL", key)
        async with edge.connect(resuming(start, query), additional_headers=bearer(text)) as newer:
            assert (await newer.next())["code"] == code
            assert await newer.closed() == 1008
        assert await edge.core.server.execute("HGETALL", key) == before
        await older.speak(1)
        await older.acked(FRAME_SAMPLES)
        assert await edge.core.reservations.held() == 1


@pytest.mark.parametrize("caller", [
    {"sub": "bob"}, {"sub": "bob", "scope": "ingest"}, {"tenant_id": "*", "scope": "admin"},
])  # fmt: skip
async def test_a_resume_token_is_good_within_its_tenant(redis_url: str, caller: dict[str, str]) -> None:
    """A caller of the tenant with the token, or an operator, continues, and the session keeps its owner (SESS-9)."""
    async with guarded(redis_url) as edge:
        async with edge.connect(additional_headers=bearer(token())) as client:
            start = await client.next()
        async with edge.connect(resuming(start), additional_headers=bearer(token(**caller))) as client:
            assert (await client.next())["session_id"] == start["session_id"]
        found = await edge.log.read_position(edge.core.server.keys.of(start["session_id"]))
        assert found is not None
        assert (found.tenant_id, found.owner_id) == ("acme", "ana")
        assert [one.tenant_id for one in await reserved(edge)] == ["acme"]


async def reserved(edge: Replica) -> list[Reservation]:
    """All reservations."""
    found = await edge.core.server.execute("ZRANGE", tenant_reservations("acme"), 0, -1)
    assert await edge.core.server.execute("ZCARD", reservations()) == len(found)
    return [Reservation(name.decode(), "acme") for name in found]


async def test_a_superseded_append_is_refused(redis_url: str) -> None:
    """An older connection that missed the message about its successor appends nothing beside it."""
    async with replica(redis_url) as first, replica(redis_url) as second:
        async with first.connect() as older:
            start = await older.next()
            await first.core.fanout.stop()
            async with second.connect(resuming(start)) as newer:
                await newer.next()
                await older.speak(1)
                assert (await older.until("error"))["code"] == "superseded"
                await newer.send(frame(9))
                await newer.acked(FRAME_SAMPLES)
        assert await pcm(second, start["session_id"]) == frame(9)


@contextlib.asynccontextmanager
async def with_feed(edge: Replica, finals: int) -> AsyncIterator[tuple[dict[str, str], SessionKeys]]:
    """A dropped session whose feed holds some finals."""
    async with edge.connect() as client:
        start = await client.next()
    keys = edge.core.server.keys.of(start["session_id"])
    for number in range(finals):
        await add_final(edge, keys, number)
    yield start, keys


async def add_final(edge: Replica, keys: SessionKeys, number: int, *, publish: bool = False) -> None:
    """Adds a final to a feed as its projection does."""
    body = json.dumps({"type": "final", "utterance": number})
    server, run, position = edge.core.server, keys.run(), str(Position(number + 1, 0))
    await server.execute("XADD", run.feed, position, "event", body)
    if publish:
        message = FeedMessage(FeedKind.EVENT, run.member, position, str(Position(number, 0)), body)
        await server.execute("SPUBLISH", keys.partition.feed_channel, encode_message(message))


async def test_a_resume_hears_what_comes(edge: Replica) -> None:
    """Without being asked to, a resume repeats no final, and it misses none that comes later."""
    async with with_feed(edge, 2) as (start, keys), edge.connect(resuming(start)) as client:
        await client.next()
        await eventually_async(lambda: _listens_from(edge, Position(2, 0)))
        await add_final(edge, keys, 2, publish=True)
        assert (await client.until("final"))["utterance"] == 2


def _listens_from(edge: Replica, position: Position) -> bool:
    return [connection.cursor.position for connection in edge.core.connections] == [position]


async def test_a_resume_hears_what_it_asks_for(edge: Replica) -> None:
    """With `next_utterance` a resume receives the finals from that one on."""
    async with with_feed(edge, 3) as (start, _), edge.connect(resuming(start, "&next_utterance=1")) as client:
        assert [(await client.until("final"))["utterance"] for _ in range(2)] == [1, 2]


async def test_a_final_during_a_resume_is_sent_once(
    edge: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A final that is published while a resume reads the missed ones is sent once, not from both (STITCH-7)."""
    async with with_feed(edge, 0) as (start, keys):
        fanout, witness = edge.core.fanout, Witness()
        looked = fanout.last_position

        async def late(run: RunKeys) -> Position:
            last = await looked(run)
            fanout.add(FeedCursor(run, last, witness))
            await add_final(edge, keys, 0, publish=True)
            await eventually_async(lambda: witness.positions)
            return last

        monkeypatch.setattr(fanout, "last_position", late)
        async with edge.connect(resuming(start, "&next_utterance=0")) as client:
            assert (await client.until("final"))["utterance"] == 0
            await add_final(edge, keys, 1, publish=True)
            assert (await client.until("final"))["utterance"] == 1


class Witness(Subscriber):
    """Keeps the position of each event that it receives."""

    def __init__(self) -> None:
        self.positions: list[Position] = []

    def on_event(self, position: Position, body: str, *, last: bool) -> None:  # noqa: ARG002 - see `Subscriber`
        """See `Subscriber`."""
        self.positions.append(position)


async def test_a_missed_message_is_read_from_the_feed(edge: Replica) -> None:
    """An event whose message was lost comes from the feed, in order, as soon as the next one shows the gap."""
    async with edge.connect() as client:
        start = await client.next()
        keys = edge.core.server.keys.of(start["session_id"])
        await edge.core.fanout.listening()
        await add_final(edge, keys, 0)
        await add_final(edge, keys, 1, publish=True)
        assert [(await client.until("final"))["utterance"] for _ in range(2)] == [0, 1]


async def test_a_listener_ahead_of_the_feed_is_reset(edge: Replica) -> None:
    """When the feed went back before a client's position, the client gets a reset and the feed from its start."""
    async with edge.connect() as client:
        start = await client.next()
        keys = edge.core.server.keys.of(start["session_id"])
        await edge.core.fanout.listening()
        for number in range(2):
            await add_final(edge, keys, number, publish=True)
            await client.until("final")
        await edge.core.server.execute("XDEL", keys.run().feed, "2-0")
        edge.core.fanout._on_reset()
        await client.until("reset")
        assert (await client.until("final"))["utterance"] == 0


async def test_late_partials_are_dropped(edge: Replica) -> None:
    """A partial made before the last final isn't sent any more."""
    async with edge.connect() as client:
        start = await client.next()
        keys = edge.core.server.keys.of(start["session_id"])
        await edge.core.fanout.listening()
        await add_final(edge, keys, 0, publish=True)
        for position in ("0-0", "1-0"):
            body = json.dumps({"type": "partial", "utterance": 0, "text": position})
            message = FeedMessage(FeedKind.PARTIAL, keys.run().member, position, "", body)
            await edge.core.server.execute("SPUBLISH", keys.partition.feed_channel, encode_message(message))
        assert (await client.until("partial"))["text"] == "1-0"


async def test_a_stalled_redis_loses_nothing(standalone: Server) -> None:
    """While Redis stands still the edge reads no further than its bound, then continues with nothing lost (SESS-10)."""
    frames = 400
    async with replica(standalone.url, max_unacked_bytes=64_000) as edge, edge.connect() as client:
        start = await client.next()
        [connection] = edge.core.connections
        standalone.pause_ms(2_000)
        sending = asyncio.create_task(client.speak(frames))
        await eventually_async(lambda: connection.uplink.unacked_bytes > 64_000)
        received = connection.uplink.received_bytes
        assert received < frames * 2 * FRAME_SAMPLES
        assert connection.uplink.unacked_bytes < 64_000 + 256_000  # what one read of the socket may bring
        await sending
        await client.acked(frames * FRAME_SAMPLES)
        assert await pcm(edge, start["session_id"]) == b"".join(map(frame, range(1, frames + 1)))


async def test_a_redis_gone_for_long_ends_the_connection(standalone: Server) -> None:
    """Past the bound the client gets `log_unavailable` with the durable offset, and can resume from there (SAFE-1)."""
    async with replica(standalone.url, redis_outage_timeout_s=0.3, timeout_s=0.3) as edge:
        async with edge.connect() as client:
            start = await client.next()
            await client.speak(1)
            await client.acked(FRAME_SAMPLES)
            standalone.pause_ms(1_500)
            await client.speak(1, first=2)
            error = await client.until("error")
            assert (error["code"], error["fatal"]) == ("log_unavailable", True)
            assert str(FRAME_SAMPLES) in error["message"]
            assert await client.closed() == 1013
        again = await eventually_async(lambda: _resumed(edge, start), 15)
        assert again["offset"] in {FRAME_SAMPLES, 2 * FRAME_SAMPLES}


async def _resumed(edge: Replica, start: dict[str, str]) -> dict[str, object]:
    async with edge.connect(resuming(start)) as client:
        message = await client.next()
        return message if message["type"] == "session_start" else {}


async def gone_back(edge: Replica, client: Client, *, to_frames: int, of_frames: int) -> SessionKeys:
    """Speaks, then puts the session's keys back to where they were after `to_frames`, as a failover does."""
    start = await client.next()
    keys = edge.core.server.keys.of(start["session_id"])
    await client.speak(to_frames)
    await client.acked(to_frames * FRAME_SAMPLES)
    names = (keys.session, keys.audio)
    dumps = await edge.core.server.execute_many([("DUMP", name) for name in names])
    await client.speak(of_frames - to_frames, first=to_frames + 1)
    await client.acked(of_frames * FRAME_SAMPLES)
    for name, dump in zip(names, dumps, strict=True):
        await edge.core.server.execute("RESTORE", name, 0, dump, "REPLACE")
    return keys


TRUNCATED = "audio log truncated by failover; resending entries"


async def test_an_entry_that_the_log_has_already_is_no_truncation(
    edge: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """A repeated append that the log has already counts as done, and no log record speaks of a failover."""
    async with edge.connect() as client:
        session_id = (await client.until("session_start"))["session_id"]
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        [connection] = edge.core.connections
        uplink, keys = connection.uplink, edge.core.server.keys.of(session_id)
        second = Append(keys, uplink.epoch, uplink.head, Position(2 * FRAME_SAMPLES, 0), frame(2), is_audio=True)
        assert [one.code for one in await edge.log.append([second])] == [Code.OK]
        await client.speak(1, first=2)
        await client.acked(2 * FRAME_SAMPLES)
    assert await pcm(edge, session_id) == frame(1) + frame(2)
    assert TRUNCATED not in [record.message for record in caplog.records]


async def test_a_log_that_went_back_is_filled_again(edge: Replica, caplog: pytest.LogCaptureFixture) -> None:
    """Acked audio that a failover lost is appended again from the edge's resend buffer, with a warning (SAFE-1)."""
    async with edge.connect() as client:
        keys = await gone_back(edge, client, to_frames=2, of_frames=6)
        await client.speak(1, first=7)
        await client.acked(7 * FRAME_SAMPLES)
    assert await pcm(edge, keys.session_id) == b"".join(map(frame, range(1, 8)))
    assert [record.message for record in caplog.records].count(TRUNCATED) == 1


async def test_audio_that_is_no_longer_kept_is_a_hole(redis_url: str) -> None:
    """Lost audio that isn't kept any more becomes a hole of its exact length, never stitched over."""
    async with replica(redis_url, resend_buffer_s=0.0) as edge, edge.connect() as client:
        keys = await gone_back(edge, client, to_frames=2, of_frames=6)
        await client.speak(1, first=7)
        await client.acked(7 * FRAME_SAMPLES)
        found = await chunks(edge, keys.session_id)
    holes = [entry for entry in found if entry.event]
    assert [decode_audio_event(hole.event or b"") for hole in holes] == [HoleFound(samples=4 * FRAME_SAMPLES)]
    assert holes[0].position == Position(6 * FRAME_SAMPLES, 0)
    assert found[-1].pcm == frame(7)


async def test_a_forgotten_resume_is_made_again(edge: Replica) -> None:
    """A connection whose own resume was lost by a failover continues, since no newer one exists."""
    async with edge.connect() as client:
        start = await client.next()
        keys = edge.core.server.keys.of(start["session_id"])
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        client.cut()
    names = (keys.session, keys.audio)
    dumps = await edge.core.server.execute_many([("DUMP", name) for name in names])
    async with edge.connect(resuming(start)) as client:
        await client.next()
        for name, dump in zip(names, dumps, strict=True):
            await edge.core.server.execute("RESTORE", name, 0, dump, "REPLACE")
        await client.speak(1, first=2)
        await client.acked(2 * FRAME_SAMPLES)
    assert await pcm(edge, start["session_id"]) == frame(1) + frame(2)


async def test_a_deleted_session_is_gone(edge: Replica) -> None:
    """Audio for a session whose keys were deleted recreates nothing and gets `session_gone`."""
    async with edge.connect() as client:
        start = await client.next()
        keys = edge.core.server.keys.of(start["session_id"])
        await edge.core.server.execute("DEL", keys.session, keys.audio)
        await client.speak(1)
        assert (await client.until("error"))["code"] == "session_gone"
        assert await client.closed() == 1008
    assert await edge.core.server.execute("EXISTS", keys.session, keys.audio) == 0


@pytest.mark.parametrize("resumes", [True, False])
async def test_a_replica_that_shuts_down_drains_its_clients(redis_url: str, *, resumes: bool) -> None:
    """On shutdown everything received is made durable, and the client gets `going_away` (SESS-8)."""
    async with replica(redis_url) as first, replica(redis_url) as second:
        async with first.connect() as client:
            start = await client.next()
            await client.speak(2)
            await client.acked(2 * FRAME_SAMPLES)
            await first.leave()
            assert await client.closed() == 1012
            assert client.received[-1]["code"] == "going_away"
        if resumes:
            async with second.connect(resuming(start)) as client:
                assert (await client.next())["offset"] == 2 * FRAME_SAMPLES
