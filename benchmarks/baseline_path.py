"""The baseline's two processes: the cost of any live transcription over Redis before it promises anything.

An edge that takes frames and pipelines plain XADDs, a worker that reads all streams and runs webrtcvad; no guard, no
claim, no ack, no final. `benchmarks.baseline` starts them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from typing import Any

import _webrtcvad
import redis.asyncio as redis
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.routing import Mount

from eventlog.redis.packing import use_hiredis_packing
from eventlog.redis.redis_log import KEYS_PER_READ

FLUSH_S = 0.005
"""Chunks of all sockets go in one pipeline this often."""

TICK_S = 0.03
"""Between two reads of all streams."""

RATE_HZ, FRAME_BYTES = 16_000, 960
"""30 ms frames of 16 kHz mono, the longest that webrtcvad takes."""


def connected(url: str) -> redis.Redis:
    """A client that packs as ours do: the library's slowness is no part of the comparison."""
    client = redis.Redis.from_url(url, protocol=2)
    use_hiredis_packing(client)
    client.response_callbacks.clear()
    return client


class Edge:
    """Frames of all sockets to streams."""

    def __init__(self, url: str) -> None:
        """Append to the Redis at `url`."""
        self._redis = connected(url)
        self._chunks: list[tuple[bytes, bytes]] = []

    async def socket(self, _scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own shapes
        """Serve one client: greet it, take its frames, and send the end when it stops."""
        await receive()
        await send({"type": "websocket.accept"})
        name = str(uuid.uuid4())
        start = {"type": "session_start", "session_id": name, "resume_token": "", "offset": 0, "sample_rate": RATE_HZ}
        await send({"type": "websocket.send", "text": json.dumps(start)})
        await self._redis.execute_command("SADD", "streams", name)  # type: ignore[no-untyped-call]
        stream = name.encode()
        while (message := await receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            if data is None:
                await send({"type": "websocket.send", "text": '{"type":"session_end","transcript":"","utterances":0}'})
                await send({"type": "websocket.close", "code": 1000})
                return
            self._chunks.append((stream, data))

    async def flush(self) -> None:
        """Append what came, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            chunks, self._chunks = self._chunks, []
            if not chunks:
                continue
            pipeline = self._redis.pipeline(transaction=False)
            for stream, data in chunks:
                pipeline.execute_command("XADD", stream, "*", "pcm", data)
            await pipeline.execute()


async def edge(url: str, port: int) -> None:
    """Serve until ended."""
    baseline = Edge(url)
    app = Starlette(routes=[Mount("/", app=baseline.socket)])
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, ws="websockets-sansio", ws_per_message_deflate=False, lifespan="off",
        log_level="warning",
    )  # fmt: skip
    await asyncio.gather(baseline.flush(), uvicorn.Server(config).serve())


class Stream:
    """One session's detector and the rest of the last chunk."""

    def __init__(self) -> None:
        """A fresh detector."""
        self.cursor = b"0-0"
        self._rest = b""
        self._detector = _webrtcvad.create()
        _webrtcvad.init(self._detector)
        _webrtcvad.set_mode(self._detector, 1)

    def detect(self, pcm: bytes) -> None:
        """Run the detector over whole frames."""
        audio = self._rest + pcm
        whole_bytes = len(audio) - len(audio) % FRAME_BYTES
        for first in range(0, whole_bytes, FRAME_BYTES):
            _webrtcvad.process(self._detector, RATE_HZ, audio[first : first + FRAME_BYTES], FRAME_BYTES // 2)
        self._rest = audio[whole_bytes:]


async def worker(url: str) -> None:
    """Read and detect until ended."""
    client = connected(url)
    streams: dict[bytes, Stream] = {}
    read_at = 0.0
    clock = asyncio.get_running_loop().time
    while True:
        if clock() - read_at > 1:
            read_at = clock()
            members = await client.execute_command("SMEMBERS", "streams")  # type: ignore[no-untyped-call]
            for name in members:
                streams.setdefault(name, Stream())
        names = list(streams)
        for first in range(0, len(names), KEYS_PER_READ):
            part = names[first : first + KEYS_PER_READ]
            cursors = [streams[name].cursor for name in part]
            command = ("XREAD", "COUNT", 50, "STREAMS", *part, *cursors)
            answer = await client.execute_command(*command)  # type: ignore[no-untyped-call]
            for name, entries in answer or ():
                stream = streams[name]
                for entry_id, fields in entries:
                    stream.detect(fields[1])
                    stream.cursor = entry_id
        await asyncio.sleep(TICK_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("edge", "worker"))
    parser.add_argument("url")
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    uvloop.run(edge(chosen.url, chosen.port) if chosen.role == "edge" else worker(chosen.url))
