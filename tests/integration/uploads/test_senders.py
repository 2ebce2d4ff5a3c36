"""Senders of long uploads wait for their decoder, get an error if no worker lives, and lose nothing."""

import asyncio
from typing import Any

import httpx2
import pytest

from edge.session import upload_credit
from eventlog.keys import SessionKeys
from eventlog.work import heartbeats
from eventlog.work.uploads import WORKER
from tests.integration.edge.replicas import Replica, replica
from tests.support.waiting import eventually_async

AHEAD_BYTES = 2 << 20
WHOLE = b"RIFF\0\0\0\0WAVE" + bytes((5 << 20) - 12)
FRAME_BYTES = 65_536
CONTAINER = {"content-type": "audio/wav"}


async def end_bytes(edge: Replica, keys: SessionKeys) -> int:
    """Where an upload ends."""
    about = await edge.log.read_position(keys.upload)
    assert about is not None
    return about.head.offset


async def only(edge: Replica) -> SessionKeys:
    """The only session, once it exists."""
    server, found = edge.core.server, list[SessionKeys]()

    async def is_there() -> bool:
        for keys in server.keys.partitions:
            members = await server.execute("ZRANGE", keys.index, 0, -1)
            found.extend(server.keys.of_run(member.decode()).session for member in members)
        return bool(found)

    await eventually_async(is_there)
    return found[0]


async def grant(edge: Replica, keys: SessionKeys, credit_bytes: int) -> None:
    """What a decoder's holder says."""
    await edge.core.server.execute("HSET", keys.upload.session, "credit_bytes", credit_bytes)


async def stands(edge: Replica, keys: SessionKeys, at_bytes: int) -> None:
    """Return when an upload has come exactly so far."""

    async def has_come() -> bool:
        return await end_bytes(edge, keys) == at_bytes

    await eventually_async(has_come)


def sending(edge: Replica, path: str = "/v1/transcribe", body: bytes = WHOLE) -> "asyncio.Task[httpx2.Response]":
    """A request that brings a recording."""

    async def send() -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=edge.http, timeout=60) as client:
            return await client.post(path, content=body, headers=CONTAINER)

    return asyncio.create_task(send())


async def test_a_request_waits_for_its_decoder(redis_url: str) -> None:
    """BATCH-1: of a recording no more comes than is granted, to the byte; all of it, once that is."""
    async with replica(redis_url, max_upload_ahead_bytes=AHEAD_BYTES, result_timeout_s=0.1) as edge:
        request = sending(edge)
        keys = await only(edge)
        await stands(edge, keys, AHEAD_BYTES)
        await grant(edge, keys, AHEAD_BYTES + 100_001)
        await stands(edge, keys, AHEAD_BYTES + 100_001)
        assert not request.done()
        await grant(edge, keys, 10 * len(WHOLE))
        assert (await request).status_code == 202
        found = await edge.core.server.execute("XRANGE", keys.upload.audio, "-", "+")
        assert b"".join(fields[1] for _, fields in found if fields[0] == b"pcm") == WHOLE


async def test_a_socket_is_read_no_further(redis_url: str) -> None:
    """SESS-10: a WebSocket's upload waits at its credit, unread, and continues from there."""
    settings: dict[str, Any] = {"max_upload_ahead_bytes": AHEAD_BYTES, "session_end_timeout_s": 0.1}
    async with replica(redis_url, **settings) as edge, edge.connect("encoding=container") as client:
        start = await client.next()
        keys = edge.core.server.keys.of(start["session_id"])

        async def speak() -> None:
            for at in range(0, len(WHOLE), FRAME_BYTES):
                await client.send(WHOLE[at : at + FRAME_BYTES])

        speaking = asyncio.create_task(speak())
        await client.acked(AHEAD_BYTES)
        await stands(edge, keys, AHEAD_BYTES)
        [connection] = edge.core.connections
        # What one read of the socket brings is taken whole.
        assert connection.uplink.received_bytes <= AHEAD_BYTES + 2 * edge.core.settings.max_unacked_bytes
        await grant(edge, keys, AHEAD_BYTES + FRAME_BYTES)
        await client.acked(AHEAD_BYTES + FRAME_BYTES)
        await stands(edge, keys, AHEAD_BYTES + FRAME_BYTES)
        await grant(edge, keys, 10 * len(WHOLE))
        await client.acked(len(WHOLE))
        await speaking


async def test_without_any_worker_senders_get_an_error(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SESS-10: past a bound without a living worker a sender gets `log_unavailable` and the durable offset."""
    monkeypatch.setattr(upload_credit, "PROGRESS_TIMEOUT_S", 0.1)
    async with replica(redis_url, max_upload_ahead_bytes=AHEAD_BYTES) as edge:
        refused = await sending(edge)
        assert refused.status_code == 503
        assert refused.json()["code"] == "log_unavailable"
        assert f"durable up to offset {AHEAD_BYTES}" in refused.json()["detail"]
        async with edge.connect("encoding=container") as client:
            await client.next()
            for at in range(0, AHEAD_BYTES + FRAME_BYTES, FRAME_BYTES):
                await client.send(WHOLE[at : at + FRAME_BYTES])
            error = await client.until("error")
            assert error["code"] == "log_unavailable"
            assert str(AHEAD_BYTES) in error["message"]


async def test_a_living_worker_is_waited_for(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SESS-7, SESS-6: however slow its worker, a sender that waits keeps its session alive and its place taken."""
    monkeypatch.setattr(upload_credit, "PROGRESS_TIMEOUT_S", 0.1)
    monkeypatch.setattr(upload_credit, "TOUCH_S", 0.1)
    settings: dict[str, Any] = {"max_upload_ahead_bytes": AHEAD_BYTES, "reservation_ttl_s": 1.0, "max_sessions": 1}
    async with replica(redis_url, **settings) as edge:
        await heartbeats.write(edge.core.server, WORKER, "slow", {})
        async with httpx2.AsyncClient(base_url=edge.http) as client:
            started = (await client.post("/live/start", json={"encoding": "container"})).json()
        keys = edge.core.server.keys.of(started["session_id"])
        request = sending(edge, f"/live/{started['session_id']}/audio")
        await stands(edge, keys, AHEAD_BYTES)
        seen: list[int] = []

        async def seen_often() -> bool:
            seen.append(int(await edge.core.server.execute("HGET", keys.upload.session, "seen_ms")))
            return seen[-1] - seen[0] > 2_000

        await eventually_async(seen_often)
        assert not request.done()
        async with httpx2.AsyncClient(base_url=edge.http) as client:
            assert (await client.post("/live/start", json={})).status_code in {429, 503}
        await grant(edge, keys, 10 * len(WHOLE))
        assert (await request).status_code == 200
        assert await end_bytes(edge, keys) == len(WHOLE)


async def test_a_draining_replica_ends_a_wait(redis_url: str) -> None:
    """SESS-8: a replica that shuts down doesn't wait for a decoder; its sender goes elsewhere."""
    async with replica(redis_url, max_upload_ahead_bytes=AHEAD_BYTES) as edge:
        request = sending(edge)
        keys = await only(edge)
        await stands(edge, keys, AHEAD_BYTES)
        edge.core.is_draining = True
        assert (await request).status_code == 503


