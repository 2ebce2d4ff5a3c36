"""Frames in any pieces: what TCP makes of a client's bytes changes nothing."""

import asyncio
import random
from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode

from edge.app import STREAM_PATH
from eventlog.codec import decode_audio_event
from eventlog.events import Finalized
from tests.integration.edge.replicas import Replica
from tests.integration.edge.test_stream import entries
from tests.support.waiting import eventually_async

HANDSHAKE = (
    f"GET {STREAM_PATH} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
# Around the lengths at which a frame's header changes its shape, and what a live client sends.
SIZES = (2, 124, 126, 128, 3_200, 3_200, 3_200, 3_200, 65_534, 65_536, 70_000)


def wire(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """A frame as a client sends it, masked."""
    return Frame(opcode, data, fin).serialize(mask=True)


def spoken(dice: random.Random) -> Iterator[tuple[bytes, bytes]]:
    """What a client sends, with the audio that is in it: frames of all sizes, fragments, pings, control messages."""
    for _ in range(60):
        audio = dice.randbytes(dice.choice(SIZES))
        kind = dice.random()
        if kind < 0.1:
            cut = len(audio) // 2
            yield wire(Opcode.BINARY, audio[:cut], fin=False) + wire(Opcode.CONT, audio[cut:]), audio
        else:
            yield wire(Opcode.BINARY, audio), audio
        if kind > 0.9:
            yield wire(Opcode.PING, b"there?") + wire(Opcode.TEXT, b'{"type":"finalize"}'), b""


def pieces(data: bytes, largest: int, dice: random.Random) -> Iterator[bytes]:
    """The bytes, cut at random."""
    at = 0
    while at < len(data):
        size = dice.randint(1, largest)
        yield data[at : at + size]
        at += size


@pytest.mark.parametrize("largest", [7, 1_000, 8_000, 200_000])
async def test_pieces_change_nothing(edge: Replica, largest: int) -> None:
    """However TCP cuts and joins a client's frames, the log holds each sample once and in order (SESS-1)."""
    dice = random.Random(largest)
    said = list(spoken(dice))
    if largest < 100:
        said = [one for one in said if len(one[0]) < 5_000][:12]
    audio = b"".join(part for _, part in said)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    try:
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        session_id = (await reader.readuntil(b'"resume_token"')).split(b'"session_id":"')[1][:36].decode()
        for piece in pieces(b"".join(sent for sent, _ in said), largest, dice):
            writer.write(piece)
            await asyncio.gather(writer.drain())  # a task, so that the edge has its turn after each piece

        async def is_there() -> bool:
            return b"".join(entry.pcm or b"" for entry in await entries(edge, session_id)) == audio

        await eventually_async(is_there)
        events = [decode_audio_event(entry.event) for entry in await entries(edge, session_id) if entry.event]
        finalizes = sum(isinstance(event, Finalized) for event in events)
        assert (finalizes > 0) == any(not part for _, part in said)
    finally:
        writer.close()
        await writer.wait_closed()
