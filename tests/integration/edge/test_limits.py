"""The number of sessions over all replicas, and what an edge says over HTTP."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import httpx2
import pytest

from edge.session.reservations import Reservation, Reservations
from eventlog.keys import reservations
from eventlog.log import Code
from eventlog.redis.server import connect
from eventlog.work import heartbeats
from tests.integration.edge.replicas import PARTITIONS, Replica, replica
from tests.integration.edge.test_resume import resuming
from tests.integration.edge.test_stream import spoken
from tests.support.servers import Server
from tests.support.waiting import eventually_async


@contextlib.asynccontextmanager
async def places(redis_url: str, limit: int, tenant_limit: int = 0) -> AsyncIterator[Reservations]:
    """The deployment's reservations."""
    server = await connect(redis_url, partitions=PARTITIONS)
    yield Reservations(server, limit=limit, tenant_limit=tenant_limit, ttl_s=60)
    await server.close()


def named(names: str, tenant_id: str = "acme") -> list[Reservation]:
    """Reservations of sessions with one letter for an id."""
    return [Reservation(name, tenant_id) for name in names]


async def test_reservations_keep_the_limit(server: Server) -> None:
    """Over all callers, never more than the limit are held; a release frees one; a second take renews (SESS-6)."""
    async with places(server.url, limit=2) as first, places(server.url, limit=2) as second:
        asked = zip([first, second] * 2, "abcd", strict=True)
        taken = await asyncio.gather(*(place.take(named(name)) for place, name in asked))
        codes = [code for [code] in taken]
        assert sorted(codes) == [Code.OK, Code.OK, Code.FULL, Code.FULL]
        held = "abcd"[codes.index(Code.OK)]
        assert await second.take(named(held)) == [Code.EXISTS]
        assert await first.held() == 2
        await second.release(named(held))
        assert await first.take(named("ef")) == [Code.OK, Code.FULL]


async def test_reservations_expire_by_the_clock_of_redis(redis_url: str) -> None:
    """A reservation that no edge renews expires, whatever the edges' clocks say (SESS-6)."""
    async with places(redis_url, limit=1) as place:
        assert await place.take(named("a")) == [Code.OK]
        expired_ms = await place._server.time_ms() - 1
        await place._server.execute("ZADD", reservations(), expired_ms, "a")
        assert await place.held() == 0
        assert await place.take(named("b")) == [Code.OK]


async def test_the_limit_holds_over_replicas(redis_url: str) -> None:
    """Of many that connect at once to two replicas exactly `max_sessions` get in (SESS-6)."""
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(replica(redis_url, max_sessions=3))
        second = await stack.enter_async_context(replica(redis_url, max_sessions=3))
        connecting = (stack.enter_async_context(one.connect()) for one in [first, second] * 5)
        clients = await asyncio.gather(*connecting)
        first_messages = await asyncio.gather(*(client.next() for client in clients))
        assert sum(message["type"] == "session_start" for message in first_messages) == 3
        refused = [client for client, first in zip(clients, first_messages, strict=True) if first["type"] == "error"]
        assert {client.received[0]["code"] for client in refused} == {"session_limit_exceeded"}
        assert {await client.closed() for client in refused} == {1013}


async def test_an_end_makes_room(redis_url: str) -> None:
    """A reservation is free as soon as the session's end is sent, and kept while it can be resumed."""
    async with replica(redis_url, max_sessions=1, session_end_timeout_s=0.1) as edge:
        async with edge.connect() as client:
            start = await client.next()
        async with edge.connect() as client:
            assert (await client.next())["code"] == "session_limit_exceeded"
        async with edge.connect(resuming(start)) as client:
            await client.send("stop")
            await client.until("session_end")
            async with edge.connect() as another:
                assert (await another.next())["type"] == "session_start"


async def test_connected_sessions_keep_their_reservations(redis_url: str) -> None:
    """An edge renews the reservations of its connections, and closes a connection that has lost its own."""
    async with replica(redis_url, max_sessions=1, reservation_ttl_s=0.6) as edge, edge.connect() as client:
        start = await client.next()
        key, server = reservations(), edge.core.server
        first = float(await server.execute("ZSCORE", key, start["session_id"]))
        await eventually_async(lambda: _renewed(edge, start["session_id"], first))
        now_ms = await server.time_ms()
        await server.execute_many([("ZREM", key, start["session_id"]), ("ZADD", key, now_ms + 60_000, "other")])
        assert (await client.until("error"))["code"] == "log_unavailable"


async def _renewed(edge: Replica, session_id: str, first: float) -> bool:
    return float(await edge.core.server.execute("ZSCORE", reservations(), session_id) or 0) > first


async def get(edge: Replica, path: str, **headers: str) -> httpx2.Response:
    """One HTTP request."""
    async with httpx2.AsyncClient() as http:
        return await http.get(edge.http + path, headers=headers)


async def test_health_is_about_this_process(edge: Replica) -> None:
    """The liveness probe answers with the number of sessions here (SESS-5)."""
    async with edge.connect() as client:
        await client.next()
        answer = await get(edge, "/v1/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["active_sessions"]) == (200, "ok", 1)


async def test_ready_needs_a_worker(edge: Replica) -> None:
    """Readiness is red without a worker that consumed lately, and green with one (SESS-5)."""
    for name in ("lists", "feeds"):
        await heartbeats.write(edge.core.server, f"projection.{name}", "p1", {})
    answer = await get(edge, "/v1/ready")
    assert (answer.status_code, answer.json()["redis"], answer.json()["workers"]) == (503, True, 0)
    await heartbeats.write(edge.core.server, "worker", "w1", {})
    ready = await eventually_async(lambda: _ready(edge))
    assert (ready["workers"], ready["active_sessions"]) == (1, 0)


async def _ready(edge: Replica) -> dict[str, object]:
    answer = await get(edge, "/v1/ready")
    body: dict[str, object] = answer.json()
    return body if answer.status_code == 200 else {}


async def test_ready_needs_redis(standalone: Server) -> None:
    """Readiness is red while Redis stands still, and says so (SESS-5)."""
    async with replica(standalone.url, timeout_s=0.3) as edge:
        standalone.pause_ms(1_500)
        answer = await get(edge, "/v1/ready")
        assert (answer.status_code, answer.json()["redis"]) == (503, False)
        assert (await get(edge, "/v1/health")).status_code == 200


@pytest.mark.parametrize("session_id", [str(uuid.UUID(int=3, version=4)), "unknown"])
@pytest.mark.parametrize("path", ["/v1/sessions/{}", "/v1/sessions/{}/transcript"])
async def test_an_unknown_session_is_not_found(edge: Replica, session_id: str, path: str) -> None:
    """A session that doesn't exist is a 404 with its code in JSON (STITCH-6)."""
    answer = await get(edge, path.format(session_id))
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_session")


@pytest.mark.parametrize(("path", "status", "code"), [
    ("/v1/nothing", 404, "not_found"),
    ("/v1/sessions?limit=0", 400, "invalid_query"),
    ("/v1/sessions?limit=x", 400, "invalid_query"),
    ("/v1/sessions?state=asleep", 400, "invalid_query"),
])  # fmt: skip
async def test_invalid_requests_are_answered_in_json(edge: Replica, path: str, status: int, code: str) -> None:
    """A request that can't be answered gets a JSON error with its code."""
    answer = await get(edge, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.usefixtures("path")
async def test_transcripts_are_read_over_http(redis_url: str) -> None:
    """A transcript is readable so far while the session lives, and whole afterwards, as JSON and as text (SESS-4)."""
    async with replica(redis_url) as edge, edge.connect() as client:
        address = f"/v1/sessions/{(await client.next())['session_id']}"
        empty = (await get(edge, address + "/transcript")).json()
        assert (empty["state"], empty["transcript"], empty["utterances"]) == ("active", "", [])
        await spoken(client, utterances=1)
        await client.send("stop")
        end = await client.until("session_end")
        whole = await get(edge, address + "/transcript")
        assert (whole.json()["state"], whole.json()["transcript"]) == ("closed", end["transcript"])
        text = await get(edge, address + "/transcript", accept="text/plain, application/json;q=0.5")
        assert text.text == end["transcript"] + "\n"
        assert text.headers["content-type"].startswith("text/plain")
        session = await eventually_async(lambda: _in_state(edge, address, "CLOSED"))
        assert session["finals"] == end["utterances"]
        listed = (await get(edge, "/v1/sessions?state=closed")).json()["sessions"]
        assert [one["session_id"] for one in listed] == [session["session_id"]]


async def _in_state(edge: Replica, address: str, state: str) -> dict[str, object]:
    body: dict[str, object] = (await get(edge, address)).json()
    return body if body.get("state") == state else {}
