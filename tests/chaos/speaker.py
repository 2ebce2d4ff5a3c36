"""A client: streams in real time, comes back after every interruption, and keeps all that it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.chaos.plan import RATE_HZ
from tests.chaos.stack import now_s
from tests.chaos.voices import Voice
from tests.support.waiting import lasting

FRAME_SAMPLES = RATE_HZ // 10
HANDSHAKE_S = 4.0
SILENCE_S = 6.0
"""A client that hears nothing for so long while it speaks connects anew: longer than Redis is away here."""

PAUSE_S = (0.05, 0.3)
"""Before connecting again."""

FETCH_S = 90.0
"""How long a transcript is asked for. An end that power loss took back comes again when the session is idle."""

COME_BACK = frozenset({"going_away", "log_unavailable", "slow_consumer", "superseded", "internal_error"})
ENDED = frozenset({"session_ended", "session_sealed"})
VANISHED = frozenset({"unknown_session", "session_gone"})


class Ack(NamedTuple):
    """Audio up to `offset` is durable, as told at `at_s`."""

    offset: int
    at_s: float


class AwayError(Exception):
    """The connection is of no use any more; the session is."""


class Speaker:
    """One client and its session.

    Attributes:
        finals: The finals that it counts as told, in the order heard.
        faults: What no client should ever see.
    """

    def __init__(self, voice: Voice, port: int, dice: random.Random, *, rate_hz: int = RATE_HZ) -> None:
        """Will stream `voice` to any edge behind `port`."""
        self.voice = voice
        self.session_id = ""
        self.begun_s = now_s()
        self.acks: list[Ack] = []
        self.finals: list[dict[str, Any]] = []
        self.holes: list[dict[str, Any]] = []
        self.end: dict[str, Any] | None = None
        self.ended_s = 0.0
        """When it was told that the session is over; fetching the transcript may take longer."""
        self.stopped_s: float | None = None
        self.resets = 0
        self.connections = 0
        self.local_port = 0
        """Its side of the present connection."""
        self.went_back: list[tuple[int, int]] = []
        """Acked offset and offset told, where a server went on before what it had acked."""
        self.vanished: list[tuple[str, float]] = []
        """Sessions that no server knew any more, and when that was told."""
        self.faults: list[str] = []
        self._rate_hz = rate_hz
        self._gate_port = port
        self._dice = dice
        self._token = ""
        self._sent = 0
        self._left: set[int] = set()
        self._started_s: float | None = None
        self._heard_s = 0.0

    @property
    def acked(self) -> int:
        """Samples that it was told are durable."""
        return max((ack.offset for ack in self.acks), default=0)

    @property
    def length(self) -> int:
        """Samples that it has to say."""
        return len(self.voice.samples)

    async def run(self) -> None:
        """Speak to the end."""
        while self.end is None and not self.faults:
            try:
                await self._connected()
            except (AwayError, ConnectionClosed, InvalidHandshake, OSError, TimeoutError, EOFError):
                await lasting(self._dice.uniform(*PAUSE_S))
        self.ended_s = self.ended_s or now_s()

    async def _connected(self) -> None:
        address = f"ws://127.0.0.1:{self._gate_port}/v1/transcribe/stream?{urlencode(self._query())}"
        async with connect(
            address, compression=None, max_size=None, open_timeout=HANDSHAKE_S, close_timeout=0.2, ping_interval=None
        ) as socket:
            self.connections += 1
            self.local_port = socket.transport.get_extra_info("sockname")[1]
            self._heard_s = now_s()
            try:
                await self._begin(socket)
                await self._converse(socket)
            finally:
                socket.transport.abort()

    def _query(self) -> dict[str, str]:
        if self.session_id:
            known = len(self.finals)
            return {"session_id": self.session_id, "resume_token": self._token, "next_utterance": str(known)}
        return {"sample_rate": str(self._rate_hz), "channels": str(self.voice.channels)}

    async def _begin(self, socket: ClientConnection) -> None:
        start = json.loads(await asyncio.wait_for(socket.recv(), SILENCE_S))
        if start["type"] != "session_start":
            await self._take(start)
            raise AwayError
        if not self.session_id:
            self._started_s = self._started_s or now_s()
        self.session_id, self._token = start["session_id"], start["resume_token"] or self._token
        offset = int(start["offset"])
        if offset < self.acked:
            self.went_back.append((self.acked, offset))
        if offset > self._sent:
            self.faults.append(f"resumed at {offset} samples, and {self._sent} were sent")
        self._sent = offset

    async def _converse(self, socket: ClientConnection) -> None:
        sending = asyncio.create_task(self._send(socket))
        try:
            while self.end is None:
                wait_s = max(0.1, self._heard_s + SILENCE_S - now_s())
                message = json.loads(await asyncio.wait_for(socket.recv(), wait_s))
                self._heard_s = now_s()
                await self._take(message)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ack":
                if message["offset"] > self.length:
                    self.faults.append(f"{message['offset']} samples acked, and there are {self.length}")
                self.acks.append(Ack(message["offset"], now_s()))
            case "final":
                self._take_final(message)
            case "reset":
                self.resets += 1
                self.finals.clear()
            case "hole":
                self.holes.append(message)
            case "session_end":
                self.ended_s = self.ended_s or now_s()
                self.end = message if message["transcript"] is not None else await self._fetched()
            case "error":
                await self._take_error(message)

    def _take_final(self, message: dict[str, Any]) -> None:
        number = message["utterance"]
        if number != len(self.finals):
            what = "doubled" if number < len(self.finals) else "lost"
            self.faults.append(f"final {what}: {number} was told after {len(self.finals) - 1}")
            return
        self.finals.append(message)

    async def _take_error(self, message: dict[str, Any]) -> None:
        code = message["code"]
        if code in COME_BACK:
            raise AwayError
        if code in ENDED and self.session_id:
            self.ended_s = self.ended_s or now_s()
            self.end = await self._fetched()
        elif code in VANISHED and self.session_id:
            self.vanished.append((self.session_id, now_s()))
            self._forget()
            raise AwayError
        else:
            self.faults.append(f"refused: {code}: {message['message']}")

    def _forget(self) -> None:
        """Begin anew: the server has nothing of the session, not even its name."""
        self.session_id = self._token = ""
        self.acks.clear()
        self.finals.clear()
        self.holes.clear()
        self._sent = 0
        self.stopped_s = None

    async def _send(self, socket: ClientConnection) -> None:
        assert self._started_s is not None
        while self._sent < self.length:
            if self._sent in self.voice.finalized:
                # Sent again after a resume here: whether it came through isn't known, and twice is as good as once.
                await socket.send('{"type":"finalize"}')
            frame = self._next_frame()
            await socket.send(self.voice.samples[self._sent : frame].tobytes())
            self._sent = frame
            if frame in self.voice.departures and frame not in self._left:
                self._left.add(frame)
                socket.transport.abort()
                return
            await lasting(self._started_s + self._sent / self._rate_hz - now_s())
        if self._sent in self.voice.finalized:
            await socket.send('{"type":"finalize"}')
        await socket.send('{"type":"stop"}')
        self.stopped_s = self.stopped_s or now_s()

    def _next_frame(self) -> int:
        """Where the next frame ends: after a tenth of a second, or where something is to be done."""
        marks = [at for at in (*self.voice.finalized, *self.voice.departures) if at > self._sent]
        return min(self._sent + FRAME_SAMPLES, self.length, *marks)

    async def _fetched(self) -> dict[str, Any]:
        """The transcript of a session that ended while nobody listened."""
        url = f"http://127.0.0.1:{self._gate_port}/v1/sessions/{self.session_id}/transcript"
        deadline_s = now_s() + FETCH_S
        while now_s() < deadline_s:
            with contextlib.suppress(httpx2.HTTPError, ValueError, OSError):
                async with httpx2.AsyncClient(timeout=HANDSHAKE_S) as client:
                    answer = await client.get(url)
                document: dict[str, Any] = answer.json()
                if answer.status_code == httpx2.codes.OK and document.get("state") == "closed":
                    return {"type": "fetched", **document}
            await lasting(self._dice.uniform(*PAUSE_S))
        self.faults.append("the transcript was not there within a while")
        return {"type": "fetched", "transcript": None}
