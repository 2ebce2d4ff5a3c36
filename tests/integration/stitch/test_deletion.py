"""STITCH-7: deletion leaves nothing, whenever it comes and whatever is under way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import numpy as np
import websockets
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge import errors
from eventlog.redis.server import Server
from tests.integration.edge.replicas import Client
from tests.integration.stitch.path import Path, bounded
from tests.integration.stitch.speakers import RATE_HZ, TALKATIVE, Speaker, audio
from tests.support.waiting import eventually_async

_READ = {
    b"string": ("GET", "{}"), b"list": ("LRANGE", "{}", 0, -1), b"hash": ("HGETALL", "{}"),
    b"zset": ("ZRANGE", "{}", 0, -1), b"stream": ("XRANGE", "{}", "-", "+"), b"set": ("SMEMBERS", "{}"),
}  # fmt: skip


async def everything(server: Server) -> dict[str, bytes]:
    """Every key of the one Redis, and all that it holds, as one text."""
    found = {}
    for key in await server.execute("KEYS", "*"):
        name = key.decode()
        command = _READ.get(await server.execute("TYPE", key))
        if command is not None:  # otherwise it has just expired
            found[name] = flat(await server.execute(*(name if part == "{}" else part for part in command)))
    return found


def flat(answer: Any) -> bytes:  # noqa: ANN401 - any answer of Redis
    """An answer's bytes one after the other."""
    match answer:
        case bytes():
            return answer + b"\n"
        case dict():
            return b"".join(flat(key) + flat(value) for key, value in answer.items())
        case list() | tuple() | set():
            return b"".join(map(flat, answer))
    return b""


class Victim:
    """A session that is deleted in the middle."""

    def __init__(self, path: Path, client: Client, session_id: str, speaker: Speaker) -> None:
        """Of a connected client."""
        self.session_id = session_id
        self.frames = [frame.tobytes() for frame in audio(speaker) if isinstance(frame, np.ndarray)]
        self.address = f"{path.replicas[1].http}/v1/sessions/{session_id}"
        self._path = path
        self._client = client

    async def speak(self, first: int, end: int) -> None:
        """Send some frames, whether an edge still takes them or not."""
        with contextlib.suppress(websockets.ConnectionClosed):
            for frame in self.frames[first:end]:
                await self._client.send(frame)

    async def traces(self) -> dict[str, list[str]]:
        """The keys that still name it, each with the part that does."""
        words = [final["text"] for final in self._client.of("final") if final["text"].count(" ") > 2]
        wanted = {"id": [self.session_id.encode()], "audio": self.frames, "words": [word.encode() for word in words]}
        found: dict[str, list[str]] = {}
        for key, held in (await everything(self._path.server)).items():
            here = [kind for kind, texts in wanted.items() if any(text in held for text in texts)]
            here += ["name"] if self.session_id in key else []
            if here and not (key.endswith(":erased") and here == ["id"]):
                found[key] = here
        return found


@contextlib.asynccontextmanager
async def speaking(path: Path, speaker: Speaker) -> AsyncIterator[Victim]:
    """A client that is about to speak."""
    async with path.client(0, f"sample_rate={RATE_HZ}&channels={speaker.channels}") as client:
        start = await client.next()
        yield Victim(path, client, start["session_id"], speaker)


@given(place=st.integers(0, 30), after_end=st.booleans(), recognised=st.booleans())
@example(place=30, after_end=True, recognised=True)
@example(place=25, after_end=False, recognised=True)
@example(place=0, after_end=False, recognised=False)
@settings(bounded, max_examples=12)  # half a second each: a client is seen off with patience
async def test_deletion_leaves_nothing(path: Path, place: int, after_end: bool, recognised: bool) -> None:  # noqa: FBT001
    """STITCH-5, STITCH-7: deleted at any moment, only the id remains, in `erased`, while client and worker run on."""
    [speaker, other] = TALKATIVE
    async with speaking(path, speaker) as victim, httpx2.AsyncClient() as http:
        neighbour = asyncio.create_task(path.hold(other))
        await victim.speak(0, place)
        if recognised and place > 24:  # by then the first pause is over
            await victim._client.until("final")
        if after_end:
            await victim._client.send("stop")
            await victim._client.until("session_end")
        assert await victim.traces() != {}
        assert (await http.delete(victim.address)).status_code == 204
        await victim.speak(place, len(victim.frames))
        assert (await http.get(victim.address)).status_code == 404
        await eventually_async(lambda: _is_gone(victim))
        await neighbour
        assert (await http.delete(victim.address)).status_code == 404
        code = await victim._client.closed()
    assert code == (1000 if after_end else errors.SESSION_GONE.close)
    assert await victim.traces() == {}


async def _is_gone(victim: Victim) -> bool:
    return not await victim.traces()
