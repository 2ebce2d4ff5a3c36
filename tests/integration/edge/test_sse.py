"""Event streams over real sockets: what they say, when they end, what a listener costs."""

import io
import wave
from collections.abc import AsyncIterator

import pytest

from eventlog.keys import RunKeys
from eventlog.positions import SEALED
from eventlog.readmodel import views
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from projections.runner import ProjectionRunner
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import RATE_HZ, Replica, frame, replica
from tests.integration.projections.facts import ended, final
from tests.support.edge_clients import (
    SseBlock,
    SseClient,
    open_session,
    projecting,
    status_of,
    transcript_of,
    write_facts,
)
from tests.support.waiting import eventually_async


async def is_closed(edge: Replica, keys: RunKeys) -> bool:
    """Whether the sessions' view knows of the end."""
    view = await views.read_view(edge.core.server, keys)
    return view is not None and view.state == "CLOSED"


@pytest.fixture
async def projected(redis_url: str) -> AsyncIterator[ProjectionRunner]:
    """All projections at work."""
    async with projecting(redis_url) as runner:
        yield runner


async def test_the_headers_of_a_status_stream(edge: Replica) -> None:
    """The status stream is a text/event-stream that no proxy caches, closes or buffers (STATUS-1)."""
    keys = await open_session(edge)
    async with status_of(edge, keys.session_id) as stream:
        assert stream.status == 200
        wanted = {
            "content-type": "text/event-stream", "cache-control": "no-cache", "connection": "keep-alive",
            "x-accel-buffering": "no",
        }  # fmt: skip
        assert wanted.items() <= stream.answer.items()
        assert await stream.block() == SseBlock(retry=3000)


async def test_a_silent_stream_has_comments(redis_url: str) -> None:
    """A comment goes out at every interval while nothing else does (STATUS-1)."""
    async with replica(redis_url, sse_keepalive_s=0.15) as edge:
        keys = await open_session(edge)
        async with status_of(edge, keys.session_id) as stream:
            blocks = [await stream.block() for _ in range(4)]
    assert [block.comment for block in blocks[1:] if block] == ["keep-alive"] * 3


async def test_a_session_is_followed_to_its_end(redis_url: str) -> None:
    """Of a session over a WebSocket both streams deliver everything and close by themselves (STATUS-4)."""
    async with replica(redis_url) as edge, behind(redis_url), edge.connect() as speaker:
        start = await speaker.next()
        session_id = start["session_id"]
        async with status_of(edge, session_id) as status, transcript_of(edge, session_id) as transcript:
            for number in range(1, 40):
                await speaker.send(frame(number))
            await speaker.send("stop")
            end = await speaker.until("session_end")
            statuses, events = await status.all(), await transcript.all()
    assert [block.data["status"] for block in statuses if block.data["progress"] is not None] == ["completed"]
    assert {block.kind for block in statuses} == {"status"}
    assert [block.data for block in events if block.kind == "final"] == speaker.of("final")
    assert events[-1].kind == "session_end"
    assert events[-1].data["transcript"] == end["transcript"]
    assert (status.ended, transcript.ended) == (True, True)


async def test_a_recording_is_followed_to_its_end(redis_url: str) -> None:
    """Of a recording that is uploaded the status gives its length and each milestone up to 100 % (STATUS-3)."""
    async with replica(redis_url) as edge, behind(redis_url), edge.connect("encoding=container") as sender:
        start = await sender.next()
        async with status_of(edge, start["session_id"]) as status:
            recording = io.BytesIO()
            with wave.open(recording, "wb") as wav:
                wav.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
                wav.writeframes(b"".join(frame(number) for number in range(1, 60)))
            await sender.send(recording.getvalue())
            await sender.send("stop")
            block = [one.data for one in await status.all()]
    assert block[-1]["status"] == "completed"
    assert {one["duration_total"] for one in block[1:]} == {5.9}
    assert [one["progress"] for one in block if one["progress"]] == [10, 25, 50, 75, 90, 100]


@pytest.mark.usefixtures("projected")
async def test_a_late_subscriber_gets_the_last_status_at_once(edge: Replica) -> None:
    """A late client gets the last status alone; after the end the stream then closes (STATUS-4)."""
    keys = await open_session(edge)
    await write_facts(edge, keys, [final(0), final(1), final(2)])
    async with status_of(edge, keys.session_id) as early:
        while (block := await early.next()) and block.data["duration_processed"] < 3:
            pass
        async with status_of(edge, keys.session_id) as late:
            first = await late.next()
            assert first == block
            await write_facts(edge, keys, [ended(3)])
            assert [one.data["status"] for one in await late.all()] == ["completed"]
    async with status_of(edge, keys.session_id) as latest:
        assert [one.data["status"] for one in await latest.all()] == ["completed"]


@pytest.mark.usefixtures("projected")
async def test_the_last_status_is_known_long_after_the_end(edge: Replica) -> None:
    """When the messages have expired, 300 s after the end, the last one is made from the view (STATUS-5)."""
    keys = await open_session(edge)
    await write_facts(edge, keys, [final(0), ended(1)])
    async with status_of(edge, keys.session_id) as stream:
        last = (await stream.all())[-1]
    ttl_s = await edge.core.server.execute("TTL", keys.status)
    assert 290 <= ttl_s <= 300
    await eventually_async(lambda: is_closed(edge, keys))
    await edge.core.server.execute("DEL", keys.status)
    async with status_of(edge, keys.session_id) as late:
        [block] = await late.all()
    assert block.data == last.data
    async with status_of(edge, keys.session_id, last_event_id=block.id) as again:
        assert again.status == 204


@pytest.mark.usefixtures("projected")
async def test_after_the_end_by_the_view_nothing_follows(edge: Replica) -> None:
    """The id of an end made from the view is after every message that may still exist (STATUS-4)."""
    keys = await open_session(edge)
    await write_facts(edge, keys, [final(0), ended(1)])
    async with status_of(edge, keys.session_id) as stream:
        assert (await stream.all())[-1].data["status"] == "completed"
    async with status_of(edge, keys.session_id, last_event_id=str(SEALED)) as again:
        assert again.status == 204


@pytest.mark.usefixtures("projected")
async def test_the_end_is_sent_once(edge: Replica) -> None:
    """A resume after the last event gets 204, so that a browser stops reconnecting (STATUS-4)."""
    keys = await open_session(edge)
    await write_facts(edge, keys, [final(0), ended(1)])
    for listen in (status_of, transcript_of):
        async with listen(edge, keys.session_id) as stream:
            last = (await stream.all())[-1]
        async with listen(edge, keys.session_id, last_event_id=last.id) as again:
            assert again.status == 204
        async with SseClient(edge.port, f"{stream.path}?last_event_id={last.id}") as by_query:
            assert by_query.status == 204


@pytest.mark.usefixtures("projected")
async def test_statuses_are_resumed_by_id(edge: Replica) -> None:
    """A status stream resumes after ``Last-Event-ID`` with the messages since, each once (STATUS-4)."""
    keys = await open_session(edge)
    await write_facts(edge, keys, [final(number) for number in range(6)])
    async with status_of(edge, keys.session_id, last_event_id="0-0") as stream:
        first, second = await stream.event(), await stream.event()
    assert (first.id, second.id) == ("1-0", "2-0")
    await write_facts(edge, keys, [ended(6)])
    async with status_of(edge, keys.session_id, last_event_id="1-0") as again:
        block = await again.all()
    assert block[0] == second
    assert [one.id for one in block] == [f"{number}-0" for number in range(2, len(block) + 2)]


@pytest.mark.parametrize("bad", ["x", "1", "1-x", "-1-0", "18446744073709551616-0", "1_0-0"])
async def test_a_malformed_id_is_refused(edge: Replica, bad: str) -> None:
    """A Last-Event-ID that can't be one is a 400 and begins no stream."""
    keys = await open_session(edge)
    for listen in (status_of, transcript_of):
        async with SseClient(edge.port, listen(edge, keys.session_id).path, {"last-event-id": bad}) as stream:
            assert (stream.status, (await stream.body())["code"]) == (400, "invalid_query")
    assert edge.core.streams.count == 0


@pytest.mark.usefixtures("projected")
async def test_an_id_ahead_of_the_log_makes_a_reset(edge: Replica) -> None:
    """A client that received events that the log lost gets `reset` and the transcript again (STATUS-4)."""
    keys = await open_session(edge)
    await write_facts(edge, keys, [final(0), final(1), ended(2)])
    async with transcript_of(edge, keys.session_id) as stream:
        whole = await stream.all()
    await edge.core.server.execute("DEL", keys.feed)
    other = await open_session(edge)
    await write_facts(edge, other, [final(0)])
    async with transcript_of(edge, other.session_id, last_event_id="7-0") as ahead:
        reset, first = await ahead.event(), await ahead.event()
        assert (reset.kind, first.kind, first.id) == ("reset", "final", "1-0")
    assert [block.kind for block in whole] == ["final", "final", "session_end"]
    async with status_of(edge, other.session_id, last_event_id="70-0") as status:
        assert (await status.event()).kind == "status"


async def test_partials_come_without_id(edge: Replica) -> None:
    """Provisional texts are events without id, so that no client resumes after one (STATUS-6)."""
    keys = await open_session(edge)
    async with transcript_of(edge, keys.session_id) as stream:
        await eventually_async(lambda: edge.core.fanout.count() == 1)
        await edge.core.fanout.listening()
        body = '{"type":"partial","text":"so far","channel":0}'
        message = encode_message(FeedMessage(FeedKind.PARTIAL, keys.member, "0-0", "", body))
        await edge.core.server.execute("SPUBLISH", keys.partition.feed_channel, message)
        block = await stream.event()
    assert (block.kind, block.id, block.data["text"]) == ("partial", "", "so far")


async def test_an_unknown_session_has_no_stream(edge: Replica) -> None:
    """An unknown session is a 404 before any stream begins (STATUS-2)."""
    for session_id in ("no-uuid", "5c1f8a9e-6f0e-4c5e-9d6e-1f1f1f1f1f1f"):
        for listen in (status_of, transcript_of):
            async with listen(edge, session_id) as stream:
                assert (stream.status, (await stream.body())["code"]) == (404, "unknown_session")


async def test_an_erased_session_ends_its_streams(edge: Replica) -> None:
    """Listeners of a session whose facts are gone are released by the next check of them."""
    keys = await open_session(edge)
    async with transcript_of(edge, keys.session_id) as stream:
        await eventually_async(lambda: edge.core.fanout.count() == 1)
        await edge.core.server.execute("DEL", keys.transcript)
        await edge.core.fanout.check(10)
        assert await stream.all() == []
        assert stream.ended


@pytest.mark.usefixtures("projected")
async def test_a_late_transcript_is_replaced_by_its_address(redis_url: str) -> None:
    """If the document lags past the bound, `session_end` has its URL instead, and the stream closes (STATUS-6)."""
    async with replica(redis_url, session_end_timeout_s=0.05) as edge:
        keys = await open_session(edge)
        await edge.core.server.execute("RPUSH", keys.document, "in the way")
        await write_facts(edge, keys, [final(0), ended(1)])
        async with transcript_of(edge, keys.session_id) as stream:
            last = (await stream.all())[-1]
    assert (last.kind, last.id, last.data["transcript"]) == ("session_end", str(SEALED), None)
    assert last.data["transcript_url"] == f"/v1/sessions/{keys.session_id}/transcript"


async def test_head_begins_no_stream(edge: Replica) -> None:
    """HEAD is answered with the headers alone, and no subscriber remains."""
    keys = await open_session(edge)
    async with SseClient(edge.port, status_of(edge, keys.session_id).path, method="HEAD") as stream:
        assert (stream.status, stream.answer["content-type"]) == (200, "text/event-stream")
    await eventually_async(lambda: edge.core.streams.count == 0)
