"""Floods, stalls and slow readers on real processes: back-pressure bounds them, and nothing is lost."""

import asyncio
import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import websockets

from tests.e2e.deployment import RATE_HZ, undisturbed
from tests.e2e.processes import Edge, Roles, Speaker, spoken, texts
from tests.support.servers import Server
from tests.support.waiting import eventually_async

SPEAKERS = 6
MIB = 1 << 20
UNACKED_BYTES = 262_144
# The most that both kernel buffers of a loopback connection take: tcp_rmem and tcp_wmem grow to some MiB.
SOCKETS_BYTES = 12 * MIB
STALL_S = 3.0


@contextlib.contextmanager
def halted(pid: int) -> Iterator[None]:
    """Halts a process."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def opened(edge: Edge, count: int) -> list[Speaker]:
    """Some connected clients."""
    speakers = [edge.client() for _ in range(count)]
    for speaker in speakers:
        await speaker.__aenter__()
        await speaker.begin()
    return speakers


async def test_a_halted_worker_delays_no_ack(redis_url: str, tmp_path: Path) -> None:
    """SESS-10, SESS-5: with its worker halted the edge keeps acking in bounded memory, and all finals come later."""
    sentences = (1, 4, 2, 3) * 2
    audio = spoken(sentences)
    with Roles(redis_url, tmp_path) as roles:
        edge, worker, _ = roles.one_of_each()
        speakers = await opened(edge, SPEAKERS)
        await eventually_async(lambda: {roles.holder(one.session_id) for one in speakers} == {worker.pid})
        before_mib = edge.rss_mib()
        with halted(worker.pid):
            await asyncio.gather(*(speaker.say(audio) for speaker in speakers))
            await asyncio.gather(*(speaker.acked(len(audio) // 2) for speaker in speakers))
            grown_mib = edge.rss_mib() - before_mib
            assert not any(speaker.finals for speaker in speakers)
        ends = await asyncio.gather(*(speaker.finish() for speaker in speakers))
    expected = undisturbed(sentences)
    assert [texts(speaker.finals) for speaker in speakers] == [expected] * SPEAKERS
    assert {end["transcript"] for end in ends} == {" ".join(expected)}
    # The edge keeps 5 s of each session against a failover, and one batch of appends: 3 MiB.
    assert grown_mib < 16


async def test_a_halted_redis_blocks_a_flood_and_loses_nothing(standalone: Server, tmp_path: Path) -> None:
    """SESS-10: while Redis is halted for seconds a flooding client's sends block; then everything arrives."""
    sentences = (1, 4) * 150
    flood, talk = spoken(sentences), spoken((1, 4, 2))
    [node] = standalone.nodes
    limits = {"STENOLOG_MAX_UNACKED_BYTES": str(UNACKED_BYTES), "STENOLOG_MAX_FRAME_BYTES": str(UNACKED_BYTES // 4)}
    with Roles(standalone.url, tmp_path, **limits) as roles:
        edge, *_ = roles.one_of_each()
        flooder, *speakers = await opened(edge, 1 + 3)
        talking = [asyncio.create_task(speaker.say(talk, speed=1.5)) for speaker in speakers]
        await eventually_async(lambda: all(speaker.durable for speaker in speakers))
        with halted(node.process.pid):
            halted_at_s = time.monotonic()
            flooding = asyncio.create_task(flooder.say(flood, block_bytes=RATE_HZ))
            await eventually_async(lambda: time.monotonic() - halted_at_s > STALL_S)
            taken_bytes = flooder.sent_bytes
            assert not flooding.done()
            assert taken_bytes < UNACKED_BYTES + SOCKETS_BYTES < len(flood)
        listening = asyncio.create_task(_receive_acks(flooder, len(flood) // 2))
        await asyncio.gather(flooding, listening, *talking)
        ends = await asyncio.gather(*(speaker.finish() for speaker in [flooder, *speakers]))
    assert texts(flooder.finals) == undisturbed(sentences)
    for speaker, end in zip(speakers, ends[1:], strict=True):
        assert speaker.of("error") == []
        assert texts(speaker.finals) == undisturbed((1, 4, 2))
        assert end["audio_seconds"] * RATE_HZ * 2 == len(talk)


async def _receive_acks(speaker: Speaker, samples: int) -> None:
    await speaker.acked(samples)


async def test_a_flood_delays_no_other_client(redis_url: str, tmp_path: Path) -> None:
    """SESS-10: beside a client at fifty times the speed of speech others get quick acks, in bounded memory."""
    sentences = (1, 4) * 40
    flood, talk = spoken(sentences), spoken((1, 4))
    with Roles(redis_url, tmp_path) as roles:
        edge, *_ = roles.one_of_each()
        flooder, *speakers = await opened(edge, 1 + SPEAKERS)
        before_mib = edge.rss_mib()
        await asyncio.gather(flooder.say(flood, speed=50), *(speaker.say(talk, speed=1) for speaker in speakers))
        grown_mib = edge.rss_mib() - before_mib
        await asyncio.gather(*(speaker.finish() for speaker in [flooder, *speakers]))
    assert texts(flooder.finals) == undisturbed(sentences)
    assert [texts(speaker.finals) for speaker in speakers] == [undisturbed((1, 4))] * SPEAKERS
    assert percentile([ack_s for speaker in speakers for ack_s in speaker.ack_s], 90) < 0.5
    assert grown_mib < 32


def percentile(values: Sequence[float], rank: int) -> float:
    """The percentile `rank` of the values."""
    return sorted(values)[math.ceil(len(values) * rank / 100) - 1]


class SlowReader(Speaker):
    """A client with a small receive buffer, so that unread messages soon queue up at the edge."""

    async def __aenter__(self) -> Self:
        """Connect with a small window and small packets; otherwise loopback buffers 3 MB."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        connection.setblocking(False)  # noqa: FBT003 - its only argument
        parts = urlsplit(self.url)
        await asyncio.get_running_loop().sock_connect(connection, (parts.hostname, parts.port))
        self.socket = await websockets.connect(self.url, sock=connection, ping_interval=None)
        return self


async def test_a_client_that_does_not_read_is_dropped_and_can_resume(redis_url: str, tmp_path: Path) -> None:
    """SESS-10, SESS-9: the edge drops a client that reads nothing past a bound; resumed, it receives all of it."""
    word, finals = spoken((1,))[RATE_HZ : 2 * RATE_HZ], 2_500
    with Roles(redis_url, tmp_path, STENOLOG_MAX_OUTBOX_MESSAGES="16") as roles:
        edge, *_ = roles.one_of_each()
        async with SlowReader(edge.client().url) as slow:
            await slow.begin()
            slow.socket.transport.pause_reading()
            with contextlib.suppress(websockets.ConnectionClosed):
                for _ in range(finals):
                    await slow.say(word)
                    await slow.send("finalize")
            await eventually_async(lambda: edge.active() == 0, 30)
            slow.cut()
        async with edge.client(slow.resuming()) as again:
            offset = await again.begin()
            assert offset > 0
            end = await again.finish()
    # More than twice what the outbox holds; the exact number depends on the machine's speed.
    assert len(texts(again.finals)) == end["utterances"] > 32
    assert end["transcript"] == " ".join(texts(again.finals))
