"""A WebSocket client for one session: paced by acks, and resuming where it was after any interruption."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from stenolog.client.edge import ClientError, UnreachableError, bearer, http_url, stream_url
from stenolog.client.unacked_audio import UnackedAudio, UnackedAudioError

Message = dict[str, Any]

MAX_UNACKED_S = 30.0
"""Audio that may wait for its ack: keeps a recogniser busy, and is sent again after an interruption."""

SERVER_TIMEOUT_S = 60.0
"""Time without a message of the server after which a session is given up: twice as long as an edge waits for Redis."""

OPEN_TIMEOUT_S = 10.0
"""Bound of one handshake; an edge answers in milliseconds."""

MIN_RETRY_S, MAX_RETRY_S = 0.2, 5.0
"""Pauses between tries double from the first to the second: a restart takes less than a second, a failover several."""

MAX_MESSAGE_BYTES = 64 << 20
"""Largest message taken: the transcript of a day's speech is a few MiB."""

RETRIED_CODES = frozenset({"going_away", "log_unavailable", "slow_consumer"})
"""Errors that end a connection and not the session: come back with the resume token."""

ENDED_CODE = "session_ended"
"""Answer to a resume that comes after the end: fetch the transcript."""


class _InterruptedError(Exception):
    """The connection ended and the session did not: try again."""

    def __init__(self, message: str, *, by_server: bool = False) -> None:
        super().__init__(message)
        self.by_server = by_server


class Client:
    """Streams the audio of one session and hands on every message of the server.

    Attributes:
        session_id: The session's id, empty until the server gave one.
    """

    def __init__(
        self, url: str, *, sample_rate_hz: int, channels: int = 1, language: str = "", realtime: bool = False,
        on_message: Callable[[Message], None], server_timeout_s: float = SERVER_TIMEOUT_S, token: str = "",
    ) -> None:
        """`url` is the edge's (http or ws); `on_message` is called with each message and must be quick.

        `token` goes with each handshake, for a deployment that asks for one.
        """
        self._headers = bearer(token)
        self.session_id = ""
        self._unacked = UnackedAudio(2 * channels)
        self._base = url
        self._query = {"encoding": "linear16", "channels": str(channels), "sample_rate": str(sample_rate_hz)}
        if language:
            self._query["language"] = language
        self._rate_hz = sample_rate_hz
        self._realtime = realtime
        self._on_message = on_message
        self._server_timeout_s = server_timeout_s
        self._resume_token = ""
        self._next_utterance = 0
        self._last_message = 0.0  # when it came, by the monotonic clock
        self._acked = asyncio.Event()  # set by each ack

    async def run(self, blocks: Iterator[bytes]) -> Message:
        """Stream `blocks` of PCM to the end; returns the `session_end` message.

        Raises:
            ClientError: if the server refuses, or stays away for longer than `server_timeout_s`.
        """
        source = _Source(blocks, self._rate_hz, self._unacked, realtime=self._realtime)
        self._last_message = time.monotonic()
        pause_s = MIN_RETRY_S
        while True:
            before = self._last_message
            try:
                return await self._connected(source)
            except _InterruptedError as interruption:
                if not self.session_id and not interruption.by_server:
                    raise UnreachableError(self._base, interruption) from interruption
                if time.monotonic() - self._last_message > self._server_timeout_s:
                    raise ClientError(f"the server stayed away: {interruption}") from interruption
            pause_s = MIN_RETRY_S if self._last_message > before else min(2 * pause_s, MAX_RETRY_S)
            # Spread, so that the clients of a restarted edge don't all come in the same instant.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _connected(self, source: _Source) -> Message:
        try:
            async with connect(
                stream_url(self._base, self._parameters()), compression=None, max_size=MAX_MESSAGE_BYTES,
                open_timeout=OPEN_TIMEOUT_S, user_agent_header="stenolog", additional_headers=self._headers,
            ) as socket:
                return await self._stream(socket, source)
        except InvalidURI as error:
            raise ClientError(f"{self._base} is no address of an edge") from error
        except InvalidHandshake as error:
            raise _InterruptedError(f"the server refused the WebSocket: {error}") from error
        except (ConnectionClosed, OSError, TimeoutError) as error:
            raise _InterruptedError(str(error) or type(error).__name__) from error

    async def _stream(self, socket: ClientConnection, source: _Source) -> Message:
        try:
            start = await asyncio.wait_for(self._receive(socket), OPEN_TIMEOUT_S)
            if start is None:  # a resume after the end
                return await self._fetched()
            self.session_id, self._resume_token = start["session_id"], start["resume_token"] or self._resume_token
            self._unacked.rewind(start["offset"])
        except UnackedAudioError as error:
            raise ClientError(str(error)) from error
        sender = asyncio.create_task(self._send(socket, source))
        try:
            while (message := await self._receive(socket)) is None or message["type"] != "session_end":
                pass
        finally:
            sender.cancel()
            [failure] = await asyncio.gather(sender, return_exceptions=True)
            if isinstance(failure, Exception) and not isinstance(failure, ConnectionClosed):
                raise failure  # the source's own error, which no new connection would cure
        if message.get("transcript") is None:
            message = {**message, **await self._fetched()}
        return message

    async def _receive(self, socket: ClientConnection) -> Message | None:
        """The next message; None for an error that says that the session is over already."""
        message: Message = json.loads(await socket.recv())
        if message["type"] != "error":
            self._last_message = time.monotonic()
        match message["type"]:
            case "ack":
                self._unacked.ack(message["offset"])
                self._acked.set()
            case "final":
                self._next_utterance = max(self._next_utterance, message["utterance"] + 1)
            case "error" if message["code"] in RETRIED_CODES:
                raise _InterruptedError(message["message"], by_server=True)
            case "error" if message["code"] == ENDED_CODE and self._resume_token:
                return None
            case "error" if message["fatal"]:
                raise ClientError(f"{message['message']} ({message['code']})")
        self._on_message(message)
        return message

    async def _send(self, socket: ClientConnection, source: _Source) -> None:
        try:
            await self._send_all(socket, source)
        except Exception:
            await socket.close()  # wakes the receiver, which then says why
            raise

    async def _send_all(self, socket: ClientConnection, source: _Source) -> None:
        while True:
            while (block := self._unacked.next_unsent()) is not None:
                await socket.send(block)
            if source.is_exhausted:
                break
            while self._unacked.unacked_samples > MAX_UNACKED_S * self._rate_hz:
                self._acked.clear()
                await self._acked.wait()
            await source.advance()
        await socket.send('{"type":"stop"}')

    def _parameters(self) -> dict[str, str]:
        if not self.session_id:
            return self._query
        return {
            **self._query, "session_id": self.session_id, "resume_token": self._resume_token,
            "next_utterance": str(self._next_utterance),
        }

    async def _fetched(self) -> Message:
        """The end of a session that ended without this client, or before its transcript was stitched."""
        import httpx2  # noqa: PLC0415 - a rare path, and a slow import

        url = http_url(self._base, f"/v1/sessions/{self.session_id}/transcript")
        deadline = time.monotonic() + self._server_timeout_s
        async with httpx2.AsyncClient(timeout=OPEN_TIMEOUT_S, headers=self._headers) as client:
            while time.monotonic() < deadline:
                try:
                    answer = await client.get(url)
                    document = answer.json() if answer.status_code == httpx2.codes.OK else {}
                except (httpx2.HTTPError, ValueError):
                    document = {}
                if document.get("state") == "closed":
                    return {"type": "session_end", **document}
                await asyncio.sleep(MIN_RETRY_S)
        raise ClientError(f"the session ended, and its transcript is not there yet; look at {url}")


class _Source:
    """Moves audio from its source to the unacked audio, at the speed of speech if asked to."""

    def __init__(self, blocks: Iterator[bytes], rate_hz: int, unacked: UnackedAudio, *, realtime: bool) -> None:
        self.is_exhausted = False
        self._blocks = blocks
        self._rate_hz = rate_hz
        self._unacked = unacked
        self._realtime = realtime
        self._started: float | None = None
        self._reading: asyncio.Future[bytes | None] | None = None

    async def advance(self) -> None:
        """Push the next block, when its time has come."""
        # In a thread: a pipe may keep us waiting, and the acks must not. Shielded: an interruption must lose no block.
        if self._reading is None:
            self._reading = _in_thread(lambda: next(self._blocks, None))
        block = await asyncio.shield(self._reading)
        self._reading = None
        if block is None:
            self.is_exhausted = True
            return
        self._unacked.push(block)
        if self._realtime:
            now = time.monotonic()
            self._started = self._started or now
            await asyncio.sleep(self._started + self._unacked.end_samples / self._rate_hz - now)


def _in_thread(read: Callable[[], bytes | None]) -> asyncio.Future[bytes | None]:
    """The result of a call that blocks; unlike with an executor, Ctrl-C doesn't wait for a silent pipe."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bytes | None] = loop.create_future()

    def settle(block: bytes | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(block)
        else:
            future.set_exception(error)

    def run() -> None:
        block, failure = None, None
        try:
            block = read()
        except Exception as error:  # noqa: BLE001 - handed on to the caller
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the caller gone
            loop.call_soon_threadsafe(settle, block, failure)

    threading.Thread(target=run, daemon=True).start()
    return future
