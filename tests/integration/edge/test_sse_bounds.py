"""Bounds of event streams: their number, slow clients, expired tokens, and memory after a close."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, Self, cast

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edge.streams.sse import DRAIN_RETRY_MS, SLOW_RETRY_MS
from projections.runner import ProjectionRunner
from tests.integration.edge.replicas import Replica, replica
from tests.integration.edge.tokens import NOW_S, Clock, authenticator, bearer, token
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

LONG = "many words " * 400
"""Some 4 kB, so that few finals fill the buffers."""


@pytest.fixture
async def projected(redis_url: str) -> AsyncIterator[ProjectionRunner]:
    """All projections at work."""
    async with projecting(redis_url) as runner:
        yield runner


def nothing_left(edge: Replica) -> bool:
    """True once the edge holds nothing of any listener."""
    streams = edge.core.streams
    held = [streams.count, edge.core.fanout.count(), len(streams.full), *map(len, streams._slots)]
    return not any(held) and not streams._users and not edge.serving.server_state.connections


async def test_a_process_limits_its_streams(redis_url: str) -> None:
    """Past the process's bound a listener is refused with 429 and a time; a freed place is taken (STATUS-7)."""
    async with replica(redis_url, max_sse_listeners=2) as edge:
        keys = await open_session(edge)
        async with status_of(edge, keys.session_id), transcript_of(edge, keys.session_id) as second:
            async with transcript_of(edge, keys.session_id) as third:
                assert third.status == 429
                assert int(third.answer["retry-after"]) > 0
                assert (await third.body())["code"] == "too_many_listeners"
            second.cut()
            await eventually_async(lambda: edge.core.streams.count == 1)
            async with transcript_of(edge, keys.session_id) as again:
                assert again.status == 200


async def test_a_user_s_streams_are_limited(redis_url: str) -> None:
    """Past a user's bound that user gets 429, and no other (STATUS-7)."""
    async with replica(redis_url, authenticator=authenticator(), now=Clock(), max_sse_listeners_per_user=1) as edge:
        keys = await open_session(edge, tenant_id="acme", owner_id="ana")
        ana, bea = bearer(token()), bearer(token(sub="bea"))
        async with transcript_of(edge, keys.session_id, **ana):
            async with transcript_of(edge, keys.session_id, **ana) as second:
                assert (second.status, (await second.body())["code"]) == (429, "too_many_listeners")
            async with transcript_of(edge, keys.session_id, **bea) as other:
                assert other.status == 200
        await eventually_async(lambda: nothing_left(edge))


async def test_only_the_owner_gets_the_status(redis_url: str) -> None:
    """Without a token 401, for another's session 404, and scope admin follows all of its tenant (STATUS-2)."""
    async with replica(redis_url, authenticator=authenticator(), now=Clock()) as edge:
        keys = await open_session(edge, tenant_id="acme", owner_id="ana")
        cases = [
            ({}, 401), (bearer("none"), 401), (bearer(token(exp=NOW_S - 3600)), 401), (bearer(token()), 200),
            (bearer(token(sub="bea")), 404), (bearer(token(tenant_id="other")), 404),
            (bearer(token(sub="boss", scope="admin")), 200),
            (bearer(token(sub="boss", scope="admin", tenant_id="other")), 404),
        ]  # fmt: skip
        for headers, wanted in cases:
            async with status_of(edge, keys.session_id, **headers) as stream:
                assert stream.status == wanted, headers
        async with transcript_of(edge, keys.session_id, **bearer(token(sub="bea"))) as reader:
            assert reader.status == 200


async def test_a_stream_outlives_its_token_by_a_bound(redis_url: str) -> None:
    """A stream that is open stays so for a while after its token has expired, and is then ended (SAFE-4)."""
    clock = Clock()
    settings = {"authenticator": authenticator(clock), "now": clock, "auth_grace_s": 0.2, "sse_keepalive_s": 0.5}
    async with replica(redis_url, **settings) as edge:  # type: ignore[arg-type]
        keys = await open_session(edge, tenant_id="acme", owner_id="ana")
        async with status_of(edge, keys.session_id, **bearer(token(exp=NOW_S + 1))) as stream:
            assert await stream.all() == []
            assert stream.ended


async def test_a_disconnect_frees_everything_at_once(edge: Replica) -> None:
    """Of listeners that are gone nothing is left, without any sweep or timer (STATUS-7)."""
    keys = await open_session(edge)
    made = [listen(edge, keys.session_id) for listen in (status_of, transcript_of) for _ in range(20)]
    streams = [await stream.__aenter__() for stream in made]
    assert edge.core.streams.count == edge.core.fanout.count() == 40
    for stream in streams:
        stream.cut()
    await eventually_async(lambda: nothing_left(edge))


class Deaf(SseClient):
    """A listener that opens a small ear and then doesn't read."""

    async def __aenter__(self) -> Self:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)  # noqa: FBT003 - socket's own signature
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        self._reader, self._writer = await asyncio.open_connection(sock=raw, limit=4096)
        self._writer.write(f"{self.method} {self.path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        self._transport = cast("Any", self._writer.transport)
        self._transport.pause_reading()
        self._text = ""
        return self

    async def listen(self) -> None:
        """Begins to read."""
        self._transport.resume_reading()
        await self._reader.readuntil(b"\r\n\r\n")


@pytest.mark.usefixtures("projected")
async def test_a_slow_client_is_dropped_and_delays_no_other(redis_url: str) -> None:
    """One that doesn't read is dropped past the bound with a hint, and others receive everything (STATUS-7)."""
    async with replica(redis_url, max_sse_buffer_bytes=8192, sse_slow_timeout_s=0.3, sse_keepalive_s=0.3) as edge:
        keys = await open_session(edge)
        path = transcript_of(edge, keys.session_id).path
        async with Deaf(edge.port, path) as deaf, transcript_of(edge, keys.session_id) as quick:
            await eventually_async(lambda: edge.core.fanout.count() == 2)
            for number in range(30):
                await write_facts(edge, keys, [final(number, LONG)])
                assert (await quick.event()).data["utterance"] == number
            await eventually_async(lambda: edge.core.streams.dropped_slow == 1)
            assert edge.core.streams.count == 1
            await deaf.listen()
            received = await deaf.all()
            assert [block.data["utterance"] for block in received] == list(range(len(received)))
            assert len(received) < 30
            assert deaf.received[-1] == SseBlock(retry=SLOW_RETRY_MS)
        await write_facts(edge, keys, [ended(30)])
        async with transcript_of(edge, keys.session_id, last_event_id=received[-1].id) as again:
            rest = await again.all()
        assert [block.data.get("utterance") for block in rest] == [*range(len(received), 30), None]


@pytest.mark.usefixtures("projected")
async def test_a_client_that_reads_in_time_loses_nothing(redis_url: str) -> None:
    """One that reads late, but within the bound, is held meanwhile, and then receives all that it missed (STATUS-7)."""
    async with replica(redis_url, max_sse_buffer_bytes=8192, sse_slow_timeout_s=60) as edge:
        keys = await open_session(edge)
        async with Deaf(edge.port, transcript_of(edge, keys.session_id).path) as deaf:
            await eventually_async(lambda: edge.core.fanout.count() == 1)
            for number in range(30):
                await write_facts(edge, keys, [final(number, LONG)])
            await eventually_async(lambda: edge.core.streams.full)
            await write_facts(edge, keys, [ended(30)])
            await deaf.listen()
            received = await deaf.all()
    assert [block.data.get("utterance") for block in received] == [*range(30), None]
    assert edge.core.streams.dropped_slow == 0


async def test_a_draining_replica_sends_its_clients_elsewhere(redis_url: str) -> None:
    """On shutdown each listener gets a hint of its own and the end of its stream; the process doesn't wait (SESS-8)."""
    async with replica(redis_url) as edge:
        keys = await open_session(edge)
        streams = [await status_of(edge, keys.session_id).__aenter__() for _ in range(8)]
        await eventually_async(lambda: edge.core.fanout.count() == 8)
        async with asyncio.timeout(5):
            await edge.leave()
            events = [await stream.all() for stream in streams]
    assert events == [[]] * 8
    assert all(stream.ended for stream in streams)
    hints = [[block.retry for block in stream.received] for stream in streams]
    assert all(first == 3000 and DRAIN_RETRY_MS[0] <= last <= DRAIN_RETRY_MS[1] for first, last in hints)  # type: ignore[operator]
    assert len({last for _, last in hints}) > 1


@pytest.mark.usefixtures("projected")
async def test_streams_run_on_any_asgi_server(redis_url: str) -> None:
    """On a server whose connections can't be taken over the streams say the same, and nothing is left of them."""
    async with replica(redis_url) as edge:
        app = edge.serving.config.app
        server = uvicorn.Server(uvicorn.Config(app, port=0, http=HttpToolsProtocol, lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve())
        await eventually_async(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        keys = await open_session(edge)
        path = transcript_of(edge, keys.session_id).path
        async with SseClient(port, path) as stream, SseClient(port, path) as leaving:
            await write_facts(edge, keys, [final(0)])
            assert await stream.next() == await leaving.next()
            leaving.cut()
            await eventually_async(lambda: edge.core.streams.count == 1)
            await write_facts(edge, keys, [ended(1)])
            assert [block.kind for block in await stream.all()] == ["session_end"]
            assert stream.ended
        await eventually_async(lambda: edge.core.streams.count == edge.core.fanout.count() == 0)
        server.should_exit = True
        await serving
