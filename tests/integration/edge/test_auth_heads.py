"""The head of a request: how long it may be, and how long it may take."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import msgspec
import pytest

from edge.errors import Problem
from edge.server import header_limits
from tests.integration.edge.replicas import FRAME_SAMPLES, Replica
from tests.support.waiting import eventually_async

BEGIN = b"GET /v1/health HTTP/1.1\r\nhost: x\r\n"


async def talking(edge: Replica) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection."""
    return await asyncio.open_connection("127.0.0.1", edge.port)


async def flooded(edge: Replica, piece: bytes, bound_bytes: int) -> bytes:
    """The answer to an endless head; the bytes sent until then are bounded."""
    reader, writer = await talking(edge)
    writer.write(BEGIN)
    answer = asyncio.create_task(reader.read())
    sent = 0
    while not answer.done() and sent < bound_bytes:
        writer.write(piece)
        sent += len(piece)
        try:
            await writer.drain()
        except ConnectionError:
            break
    assert sent < bound_bytes
    try:
        return await answer
    except ConnectionError:
        return b""


@pytest.mark.parametrize("piece", [b"x: " + b"y" * 1000 + b"\r\n", b"x" * 1000], ids=["many headers", "one header"])
async def test_an_endless_head_is_refused(edge: Replica, piece: bytes) -> None:
    """A client that sends headers without end is cut off past the bound, and the edge continues (SAFE-4)."""
    answer = await flooded(edge, piece, 64 * header_limits.MAX_HEADER_BYTES)
    if answer:
        assert (answer.startswith(b"HTTP/1.1 431 "), _problem(answer)) == (True, (431, "too_large"))
    async with httpx2.AsyncClient() as http:
        assert (await http.get(edge.http + "/v1/health")).status_code == 200


async def test_a_malformed_request_gets_a_problem(edge: Replica) -> None:
    """Bytes that are not HTTP get a problem detail and a closed connection, though no application sees them."""
    reader, writer = await talking(edge)
    writer.write(b"\x16\x03\x01\r\n\r\n")
    answer = await reader.read()
    assert (answer.startswith(b"HTTP/1.1 400 "), _problem(answer)) == (True, (400, "invalid_request"))
    writer.close()


def _problem(answer: bytes) -> tuple[int, str]:
    """Status and error code of a raw answer's body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert f"content-length: {len(body)}".encode() in head
    found = msgspec.json.decode(body, type=Problem)
    return found.status, found.code


@pytest.mark.parametrize("begin", [b"", BEGIN, BEGIN + b"\r\n" + BEGIN])
async def test_a_slow_head_is_cut(edge: Replica, begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose head doesn't come in time is cut, be it the first of it or a later one (SAFE-4)."""
    monkeypatch.setattr(header_limits, "HEADER_TIMEOUT_S", 0.2)
    reader, writer = await talking(edge)
    writer.write(begin)
    async with asyncio.timeout(5):
        answer = b""
        try:
            while piece := await reader.read(65_536):
                answer += piece
        except ConnectionError:
            pass
    assert answer.count(b"HTTP/1.1 200") == begin.count(b"\r\n\r\n")
    writer.close()


async def test_a_slow_body_is_served(edge: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on the head alone: a body may come slowly, and a socket stay open."""
    monkeypatch.setattr(header_limits, "HEADER_TIMEOUT_S", 0.1)
    now = asyncio.get_running_loop().time

    async def slowly() -> AsyncIterator[bytes]:
        late = now() + 3 * header_limits.HEADER_TIMEOUT_S
        yield b"x"
        await eventually_async(lambda: now() > late)
        yield b"y"

    async with edge.connect() as client, httpx2.AsyncClient() as http:
        await client.next()
        assert (await http.post(edge.http + "/v1/health", content=slowly())).status_code == 405
        await client.speak(3)
        await client.acked(3 * FRAME_SAMPLES)
