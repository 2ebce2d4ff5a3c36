"""A replay as readers see it: it is no session, and disturbs none until it is promoted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import redis.asyncio as redis

from eventlog.keys import LIVE_RUN, Keys, SessionKeys, status_channel
from eventlog.log import Code
from eventlog.readmodel.listings import list_sessions, read_metrics
from eventlog.readmodel.runs import read_runs
from eventlog.redis.server import connect
from eventlog.work.promotion import promote
from eventlog.work.replays import Replays, pin_start
from processor.recognisers import Clip, Recognition
from processor.recognisers.mock import MockRecogniser
from processor.settings import WorkerSettings
from processor.worker import Worker
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import PARTITIONS, TTL_S, Client, Replica, replica
from tests.integration.edge.test_sessions import ask
from tests.integration.edge.test_stream import spoken
from tests.integration.forwarding.forwarders import forwarding
from tests.integration.forwarding.sinks import Recorder
from tests.integration.replay.runs import a_session, projected, say, texts
from tests.support.deployment import never_tried
from tests.support.edge_clients import SseClient, transcript_of
from tests.support.waiting import eventually_async

QUEUE = "other"


class Other(MockRecogniser):
    """Recognises something else than the live run's recogniser."""

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """The mock's words, and one more."""
        return [msgspec.structs.replace(one, text=f"perhaps {one.text}") for one in super().recognise(clips)]


@pytest.fixture
async def edge(redis_url: str) -> AsyncIterator[Replica]:
    """An edge, and all that makes read models of what it takes."""
    async with behind(redis_url), replica(redis_url) as running:
        yield running


@contextlib.asynccontextmanager
async def replaying(redis_url: str) -> AsyncIterator[None]:
    """A worker of the replays' queue."""
    server = await connect(redis_url, partitions=PARTITIONS)
    worker = Worker(server, WorkerSettings(session_ttl_s=TTL_S, queue=QUEUE), Other(), trial=never_tried)
    await worker.start()
    try:
        yield
    finally:
        await worker.stop()
        await server.close()


async def replay(edge: Replica, keys: SessionKeys, run: str = "again") -> None:
    """Replays a session that has ended, and returns once all of that is done and projected."""
    server = edge.core.server
    replays = Replays(server, session_ttl_s=TTL_S)

    async def sealed() -> int | None:
        return await replays.read_total_samples(keys)

    total = await eventually_async(sealed)
    whereabouts = await edge.log.read_position(keys)
    assert whereabouts is not None
    assert total is not None
    start = pin_start(whereabouts.start, engine="other")
    assert await replays.start(keys.run(run), start, QUEUE, total_samples=total) == Code.OK
    await projected(server, keys.run(run))


async def talked(edge: Replica, client: Client) -> tuple[SessionKeys, str]:
    """A whole session of two utterances, and the transcript that its client gets."""
    keys = edge.core.server.keys.of((await client.next())["session_id"])
    await spoken(client, utterances=2)
    await client.send("stop")
    transcript = (await client.until("session_end"))["transcript"]
    await projected(edge.core.server, keys.run())
    return keys, transcript


async def test_a_replay_is_no_session(edge: Replica, redis_url: str) -> None:
    """REPLAY-1: a replay is in no listing or number, neither while it runs nor after; its session names it."""
    server = edge.core.server
    async with edge.connect() as client:
        keys, transcript = await talked(edge, client)
    listed = (await list_sessions(server)).views
    numbers = await read_metrics(server)
    again = keys.run("again")
    waiting = asyncio.create_task(replay(edge, keys))
    await eventually_async(lambda: _names(edge, keys, [LIVE_RUN, "again"]))

    async def unchanged() -> None:
        partition = keys.partition
        lists = (partition.open_runs, partition.ended_runs, partition.tenant_runs(listed[0].tenant_id))
        members = [await server.execute("ZRANGE", one, 0, -1) for one in lists]
        assert members == [[], [keys.run().member.encode()], [keys.run().member.encode()]]
        assert [(one.session_id, one.run) for one in (await list_sessions(server)).views] == [
            (keys.session_id, LIVE_RUN)
        ]
        assert await read_metrics(server) == numbers

    await unchanged()
    async with replaying(redis_url):
        await waiting
    await unchanged()
    detail = (await ask(edge, f"/v1/sessions/{keys.session_id}")).json()
    assert (detail["run"], detail["finals"], detail["engine"]) == (LIVE_RUN, 2, "mock")
    assert [(one["run"], one["promoted"], one["state"], one["finals"], one["engine"]) for one in detail["runs"]] == [
        (LIVE_RUN, True, "CLOSED", 2, "mock"), ("again", False, "CLOSED", 2, "other"),
    ]  # fmt: skip
    assert (await ask(edge, f"/v1/sessions/{keys.session_id}/transcript")).json()["transcript"] == transcript
    own = (await ask(edge, f"/v1/sessions/{keys.session_id}/transcript?run=again")).json()
    assert own["transcript"].startswith("perhaps ")
    assert (own["run"], own["state"]) == ("again", "closed")
    for key, other in (
        (again.list, keys.list), (again.document, keys.document), (again.view, keys.view), (again.status, keys.status)
    ):  # fmt: skip
        assert key != other
        assert await server.execute("EXISTS", key) == 1


async def _names(edge: Replica, keys: SessionKeys, names: list[str]) -> bool:
    [runs] = await read_runs(edge.core.server, [keys])
    return [one.run for one in runs] == names


async def test_a_replay_is_forwarded_to_no_sink(edge: Replica, redis_url: str) -> None:
    """REPLAY-1: a replay goes neither to the session's status channel, nor to sinks, nor to the session's listeners."""
    server, sink = edge.core.server, Recorder()
    async with redis.from_url(redis_url) as subscriber, forwarding(server, sink):
        async with edge.connect() as client:
            keys, _ = await talked(edge, client)
            received = await eventually_async(lambda: len(sink.of(keys.session_id)) == 3 and sink.of(keys.session_id))
            async with subscriber.pubsub() as channel, replaying(redis_url):
                await channel.subscribe(status_channel(keys.session_id))
                assert (await channel.get_message(timeout=30))["type"] == "subscribe"
                count = len(client.received)
                await replay(edge, keys)
                # What comes after the replay in its partition comes after it at the sink too.
                neighbour = _neighbour(keys)
                await a_session(server, session_id=neighbour)
                await eventually_async(lambda: len(sink.of(neighbour)) == 4)
                await subscriber.publish(status_channel(keys.session_id), "the next message")
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=30)
                assert message["data"] == b"the next message"
            await client.closed()
            assert len(client.received) == count
        assert sink.of(keys.session_id) == received
        async with transcript_of(edge, keys.session_id) as stream:
            events = await stream.all()
        assert [event.data.get("text", "") for event in events if event.kind == "final"]
        assert not [event for event in events if "perhaps" in str(event.data)]


def _neighbour(keys: SessionKeys) -> str:
    """The id of a session of the same partition."""
    known = Keys(PARTITIONS)
    return next(name for name in map(str, range(10_000)) if known.of(name).partition.number == keys.partition.number)


async def test_readers_over_http_get_the_promoted_run(edge: Replica) -> None:
    """REPLAY-1: transcript, exports, listing, detail and events are the promoted run's; each has its own by name."""
    server = edge.core.server
    keys = await a_session(server, "again")
    path = f"/v1/sessions/{keys.session_id}"
    [answer] = await promote(server, [keys.run("again")])
    assert answer.code == Code.OK
    said, live = texts("again", 2), texts(LIVE_RUN)
    found = (await ask(edge, path + "/transcript")).json()
    assert (found["transcript"], found["run"]) == (" ".join(said), "again")
    assert (await ask(edge, path + "/transcript.txt")).text == " ".join(said) + "\n"
    assert said[0] in (await ask(edge, path + "/transcript.srt")).text
    assert (await ask(edge, path + "/transcript.txt?run=live")).text == " ".join(live) + "\n"
    assert (await ask(edge, path + "/transcript?run=live")).json()["transcript"] == " ".join(live)
    detail = (await ask(edge, path)).json()
    assert (detail["run"], detail["finals"]) == ("again", 2)
    assert {one["run"]: (one["promoted"], one["finals"]) for one in detail["runs"]} == {
        LIVE_RUN: (False, 3), "again": (True, 2),
    }  # fmt: skip
    [listed] = (await ask(edge, "/v1/sessions")).json()["sessions"]
    assert (listed["session_id"], listed["run"], listed["finals"]) == (keys.session_id, "again", 2)
    assert await _finals(transcript_of(edge, keys.session_id)) == said


async def _finals(stream: SseClient) -> list[str]:
    async with stream:
        return [event.data["text"] for event in await stream.all() if event.kind == "final"]


@pytest.mark.parametrize(("query", "status", "code"), [
    ("?run=never", 404, "unknown_run"), ("?run=", 400, "invalid_query"), (f"?run={'x' * 257}", 400, "invalid_query"),
    ("?run=one%20live", 404, "unknown_run"),
])  # fmt: skip
async def test_a_run_that_is_not_there_is_a_404(edge: Replica, query: str, status: int, code: str) -> None:
    """REPLAY-1: the transcript of an unknown run is a 404 that says so, and a name that can't be one a 400."""
    keys = await a_session(edge.core.server)
    for path in ("/transcript", "/transcript.vtt"):
        answer = await ask(edge, f"/v1/sessions/{keys.session_id}{path}{query}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_the_transcript_of_an_unfinished_replay_can_be_read(edge: Replica) -> None:
    """REPLAY-1: a run's own transcript can be read so far while it runs."""
    server = edge.core.server
    keys = await a_session(server)
    await say(server, keys.run("again"), texts("again"), is_over=False)

    async def read() -> bool:
        found = (await ask(edge, f"/v1/sessions/{keys.session_id}/transcript?run=again")).json()
        return (found.get("state"), found.get("transcript")) == ("active", " ".join(texts("again")))

    await eventually_async(read)


async def test_a_listener_comes_back_to_another_run(edge: Replica) -> None:
    """REPLAY-1: a subscriber that resumes after a promotion gets `reset` and the new run's events, else the next."""
    server = edge.core.server
    keys = await a_session(server, "an ä@gain")
    said = texts("an ä@gain", 2)
    async with transcript_of(edge, keys.session_id) as stream:
        received = [(await stream.event()).id, *(event.id for event in await stream.all())]
    await promote(server, [keys.run("an ä@gain")])
    for last in received:
        async with transcript_of(edge, keys.session_id, last_event_id=last) as stream:
            first, *events = await stream.all()
        assert first.kind == "reset"
        assert [event.data["text"] for event in events if event.kind == "final"] == said
        assert events[-1].data["transcript"] == " ".join(said)
    async with transcript_of(edge, keys.session_id, last_event_id=events[0].id) as stream:
        assert [event.data.get("text") for event in await stream.all()] == [said[1], None]
    async with transcript_of(edge, keys.session_id, last_event_id=events[-1].id) as stream:
        assert stream.status == 204
    await promote(server, [keys.run()])
    async with transcript_of(edge, keys.session_id, last_event_id=events[-1].id) as stream:
        first, *events = await stream.all()
    assert first.kind == "reset"
    assert events[-1].data["transcript"] == " ".join(texts(LIVE_RUN))


async def test_a_listener_that_stays_is_turned_to_the_promoted_run(redis_url: str) -> None:
    """REPLAY-1: at a promotion a subscriber gets `reset` and then that run from its beginning."""
    async with replica(redis_url) as edge:
        server = edge.core.server
        keys = await a_session(server, "again")
        # As if this listener were still behind: its feed lacks the end.
        live = keys.run()
        end = (await server.execute("XREVRANGE", live.feed, "+", "-", "COUNT", 1))[0][0]
        await server.execute("XDEL", live.feed, end)
        await server.execute("SET", live.projected("feeds"), "3-0", "EX", TTL_S)
        async with transcript_of(edge, keys.session_id) as stream:
            assert [(await stream.event()).data["text"] for _ in range(3)] == texts(LIVE_RUN)
            [answer] = await promote(server, [keys.run("again")])
            assert answer.code == Code.OK
            first, *events = await stream.all()
    assert first.kind == "reset"
    assert [event.data.get("text") for event in events] == [*texts("again", 2), None]
    assert events[-1].data["transcript"] == " ".join(texts("again", 2))
