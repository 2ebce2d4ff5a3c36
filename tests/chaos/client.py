"""A client that streams in real time, reconnects after every interruption, and records every message."""

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

from tests.chaos.client_audio import ClientAudio
from tests.chaos.plan import RATE_HZ
from tests.chaos.role_processes import now_s
from tests.support.waiting import lasting

FRAME_SAMPLES = RATE_HZ // 10
HANDSHAKE_TIMEOUT_S = 4.0
RECEIVE_TIMEOUT_S = 6.0
"""A client that receives no message for this long reconnects: longer than any outage of Redis here."""

RECONNECT_PAUSE_S = (0.05, 0.3)
"""Pause before a reconnect."""

FETCH_TIMEOUT_S = 90.0
"""How long a client asks for a transcript. An end that power loss took comes again when the session is idle."""

RECONNECT_CODES = frozenset({"going_away", "log_unavailable", "slow_consumer", "superseded", "internal_error"})
ENDED_CODES = frozenset({"session_ended", "session_sealed"})
UNKNOWN_CODES = frozenset({"unknown_session", "session_gone"})


class Ack(NamedTuple):
    """Audio up to `offset` is durable; received at `at_s`."""

    offset: int
    at_s: float


class DisconnectedError(Exception):
    """The connection is lost; the session remains."""


class Client:
    """One client and its session.

    Attributes:
        finals: The finals that it received, in order.
        violations: Messages that no client should ever receive.
    """

    def __init__(self, audio: ClientAudio, port: int, dice: random.Random, *, rate_hz: int = RATE_HZ) -> None:
        """Will stream `audio` to any edge behind `port`."""
        self.audio = audio
        self.session_id = ""
        self.started_s = now_s()
        self.acks: list[Ack] = []
        self.finals: list[dict[str, Any]] = []
        self.holes: list[dict[str, Any]] = []
        self.end: dict[str, Any] | None = None
        self.ended_s = 0.0
        """When it received the session's end; fetching the transcript may take longer."""
        self.stopped_s: float | None = None
        self.resets = 0
        self.connections = 0
        self.local_port = 0
        """Its own port of the present connection."""
        self.offset_regressions: list[tuple[int, int]] = []
        """Acked offset and resumed offset, where a server resumed before what it had acked."""
        self.lost_sessions: list[tuple[str, float]] = []
        """Sessions that the servers no longer knew, each with the time of that answer."""
        self.violations: list[str] = []
        self._rate_hz = rate_hz
        self._gate_port = port
        self._dice = dice
        self._token = ""
        self._sent = 0
        self._departed_at: set[int] = set()
        self._started_s: float | None = None
        self._received_s = 0.0

    @property
    def acked(self) -> int:
        """Samples acked as durable."""
        return max((ack.offset for ack in self.acks), default=0)

    @property
    def length(self) -> int:
        """Samples that it will send."""
        return len(self.audio.samples)

    async def run(self) -> None:
        """Stream to the session's end."""
        while self.end is None and not self.violations:
            try:
                await self._stream()
            except (DisconnectedError, ConnectionClosed, InvalidHandshake, OSError, TimeoutError, EOFError):
                await lasting(self._dice.uniform(*RECONNECT_PAUSE_S))
        self.ended_s = self.ended_s or now_s()

    async def _stream(self) -> None:
        address = f"ws://127.0.0.1:{self._gate_port}/v1/transcribe/stream?{urlencode(self._query())}"
        async with connect(
            address, compression=None, max_size=None, open_timeout=HANDSHAKE_TIMEOUT_S, close_timeout=0.2,
            ping_interval=None,
        ) as socket:
            self.connections += 1
            self.local_port = socket.transport.get_extra_info("sockname")[1]
            self._received_s = now_s()
            try:
                await self._begin(socket)
                await self._exchange(socket)
            finally:
                socket.transport.abort()

    def _query(self) -> dict[str, str]:
        if self.session_id:
            known = len(self.finals)
            return {"session_id": self.session_id, "resume_token": self._token, "next_utterance": str(known)}
        return {"sample_rate": str(self._rate_hz), "channels": str(self.audio.channels)}

    async def _begin(self, socket: ClientConnection) -> None:
        start = json.loads(await asyncio.wait_for(socket.recv(), RECEIVE_TIMEOUT_S))
        if start["type"] != "session_start":
            await self._receive(start)
            raise DisconnectedError
        if not self.session_id:
            self._started_s = self._started_s or now_s()
        self.session_id, self._token = start["session_id"], start["resume_token"] or self._token
        offset = int(start["offset"])
        if offset < self.acked:
            self.offset_regressions.append((self.acked, offset))
        if offset > self._sent:
            self.violations.append(f"resumed at {offset} samples, and {self._sent} were sent")
        self._sent = offset

    async def _exchange(self, socket: ClientConnection) -> None:
        sending = asyncio.create_task(self._send(socket))
        try:
            while self.end is None:
                wait_s = max(0.1, self._received_s + RECEIVE_TIMEOUT_S - now_s())
                message = json.loads(await asyncio.wait_for(socket.recv(), wait_s))
                self._received_s = now_s()
                await self._receive(message)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _receive(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ack":
                if message["offset"] > self.length:
                    self.violations.append(f"{message['offset']} samples acked, and there are {self.length}")
                self.acks.append(Ack(message["offset"], now_s()))
            case "final":
                self._receive_final(message)
            case "reset":
                self.resets += 1
                self.finals.clear()
            case "hole":
                self.holes.append(message)
            case "session_end":
                self.ended_s = self.ended_s or now_s()
                self.end = message if message["transcript"] is not None else await self._fetch_transcript()
            case "error":
                await self._receive_error(message)

    def _receive_final(self, message: dict[str, Any]) -> None:
        number = message["utterance"]
        if number != len(self.finals):
            what = "duplicated" if number < len(self.finals) else "lost"
            self.violations.append(f"final {what}: {number} came after {len(self.finals) - 1}")
            return
        self.finals.append(message)

    async def _receive_error(self, message: dict[str, Any]) -> None:
        code = message["code"]
        if code in RECONNECT_CODES:
            raise DisconnectedError
        if code in ENDED_CODES and self.session_id:
            self.ended_s = self.ended_s or now_s()
            self.end = await self._fetch_transcript()
        elif code in UNKNOWN_CODES and self.session_id:
            self.lost_sessions.append((self.session_id, now_s()))
            self._forget()
            raise DisconnectedError
        else:
            self.violations.append(f"refused: {code}: {message['message']}")

    def _forget(self) -> None:
        """Start over: the server has lost the session altogether."""
        self.session_id = self._token = ""
        self.acks.clear()
        self.finals.clear()
        self.holes.clear()
        self._sent = 0
        self.stopped_s = None

    async def _send(self, socket: ClientConnection) -> None:
        assert self._started_s is not None
        while self._sent < self.length:
            if self._sent in self.audio.finalized:
                # Sent again after a resume here: it may not have arrived, and a second one does no harm.
                await socket.send('{"type":"finalize"}')
            frame = self._next_frame()
            await socket.send(self.audio.samples[self._sent : frame].tobytes())
            self._sent = frame
            if frame in self.audio.departures and frame not in self._departed_at:
                self._departed_at.add(frame)
                socket.transport.abort()
                return
            await lasting(self._started_s + self._sent / self._rate_hz - now_s())
        if self._sent in self.audio.finalized:
            await socket.send('{"type":"finalize"}')
        await socket.send('{"type":"stop"}')
        self.stopped_s = self.stopped_s or now_s()

    def _next_frame(self) -> int:
        """Where the next frame ends: after a tenth of a second, or at the next action."""
        marks = [at for at in (*self.audio.finalized, *self.audio.departures) if at > self._sent]
        return min(self._sent + FRAME_SAMPLES, self.length, *marks)

    async def _fetch_transcript(self) -> dict[str, Any]:
        """The transcript of a session that ended while this client was disconnected."""
        url = f"http://127.0.0.1:{self._gate_port}/v1/sessions/{self.session_id}/transcript"
        deadline_s = now_s() + FETCH_TIMEOUT_S
        while now_s() < deadline_s:
            with contextlib.suppress(httpx2.HTTPError, ValueError, OSError):
                async with httpx2.AsyncClient(timeout=HANDSHAKE_TIMEOUT_S) as client:
                    answer = await client.get(url)
                document: dict[str, Any] = answer.json()
                if answer.status_code == httpx2.codes.OK and document.get("state") == "closed":
                    return {"type": "fetched", **document}
            await lasting(self._dice.uniform(*RECONNECT_PAUSE_S))
        self.violations.append("the transcript did not come in time")
        return {"type": "fetched", "transcript": None}
