"""A WebSocket client for one session: paced by acks, and resuming where it was after any interruption."""

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from stenolog.client.unacked_audio import UnackedAudio, UnackedAudioError

Message = dict[str, Any]

CONTAINER_AHEAD_BYTES = 4_194_304
"""As `AHEAD_S`, of a container, whose bytes say nothing of seconds: minutes of what browsers record."""

AHEAD_S = 30.0
"""Audio that may wait for its ack: keeps a recogniser busy, and is what is sent again after an interruption."""

PATIENCE_S = 60.0
"""Time without a word from the server after which a session is given up: twice what an edge waits for Redis."""

OPEN_TIMEOUT_S = 10.0
"""Bound of one handshake; an edge answers in milliseconds."""

RETRY_FIRST_S, RETRY_MOST_S = 0.2, 5.0
"""Pauses between tries double from the first to the second: a restart takes less than a second, a failover several."""

MESSAGE_BYTES = 64 << 20
"""Largest message taken: the transcript of a day's speech is a few MiB."""

RETRIED = frozenset({"going_away", "log_unavailable", "slow_consumer"})
"""Errors that end a connection and not the session: come back with the resume token."""

ENDED_WHILE_AWAY = frozenset({"session_ended", "session_sealed"})
"""Answers to a resume that comes after the end: the transcript is there to be fetched."""


class ClientError(Exception):
    """The session can't go on; the message is for the user."""


class UnreachableError(ClientError):
    """No edge answers at the address."""


class _InterruptedError(Exception):
    """The connection is gone and the session isn't: try again."""

    def __init__(self, message: str, *, by_server: bool = False) -> None:
        super().__init__(message)
        self.by_server = by_server


class Client:
    """Streams the audio of one session and hands on every message of the server.

    Attributes:
        session_id: The session's id, empty until the server gave one.
        backlog: The audio on its way.
    """

    def __init__(
        self, url: str, *, sample_rate_hz: int | None, channels: int = 1, language: str = "", realtime: bool = False,
        on_message: Callable[[Message], None], patience_s: float = PATIENCE_S, token: str = "",
    ) -> None:
        """`url` is the edge's (http or ws); `on_message` is called with each message and must be quick.

        `token` goes with each handshake, for a deployment that asks for one. Without `sample_rate_hz` the blocks are
        those of a container, a recording's file as it stands: positions count bytes, `channels` may be 0 for as many
        as it has, and `realtime` means nothing.
        """
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.session_id = ""
        self.backlog = UnackedAudio(2 * channels if sample_rate_hz else 1)
        self._base = url
        self._query = {"encoding": "linear16" if sample_rate_hz else "container"}
        if channels:
            self._query["channels"] = str(channels)
        if sample_rate_hz:
            self._query["sample_rate"] = str(sample_rate_hz)
        self._most_ahead = AHEAD_S * sample_rate_hz if sample_rate_hz else CONTAINER_AHEAD_BYTES
        if language:
            self._query["language"] = language
        self._rate_hz = sample_rate_hz or 1
        self._realtime = realtime and sample_rate_hz is not None
        self._on_message = on_message
        self._patience_s = patience_s
        self._resume_token = ""
        self._next_utterance = 0
        self._heard = 0.0  # when the server last said anything
        self._room = asyncio.Event()  # set by each ack

    async def run(self, blocks: Iterator[bytes]) -> Message:
        """Stream `blocks` of PCM to the end; returns the `session_end` message.

        Raises:
            ClientError: if the server refuses, or stays away for longer than the patience.
        """
        source = _Source(blocks, self._rate_hz, self.backlog, realtime=self._realtime)
        self._heard = time.monotonic()
        pause_s = RETRY_FIRST_S
        while True:
            before = self._heard
            try:
                return await self._connected(source)
            except _InterruptedError as interruption:
                if not self.session_id and not interruption.by_server:
                    raise UnreachableError(f"no edge answers at {self._base} ({interruption})") from interruption
                if time.monotonic() - self._heard > self._patience_s:
                    raise ClientError(f"the server stayed away: {interruption}") from interruption
            pause_s = RETRY_FIRST_S if self._heard > before else min(2 * pause_s, RETRY_MOST_S)
            # Spread, so that the clients of a restarted edge don't all come in the same instant.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _connected(self, source: "_Source") -> Message:
        try:
            async with connect(
                stream_url(self._base, self._parameters()), compression=None, max_size=MESSAGE_BYTES,
                open_timeout=OPEN_TIMEOUT_S, user_agent_header="stenolog", additional_headers=self._headers,
            ) as socket:
                return await self._stream(socket, source)
        except InvalidURI as error:
            raise ClientError(f"{self._base} is no address of an edge") from error
        except InvalidHandshake as error:
            raise _InterruptedError(f"the server refused the WebSocket: {error}") from error
        except (ConnectionClosed, OSError, TimeoutError) as error:
            raise _InterruptedError(str(error) or type(error).__name__) from error

    async def _stream(self, socket: ClientConnection, source: "_Source") -> Message:
        try:
            start = await asyncio.wait_for(self._receive(socket), OPEN_TIMEOUT_S)
            if start is None:  # a resume after the end
                return await self._fetched()
            self.session_id, self._resume_token = start["session_id"], start["resume_token"] or self._resume_token
            self.backlog.rewind(start["offset"])
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
                raise failure  # the source's own trouble, which no new connection would cure
        if message.get("transcript") is None:
            message = {**message, **await self._fetched()}
        return message

    async def _receive(self, socket: ClientConnection) -> Message | None:
        """The next message; None for an error that says that the session is over already."""
        message: Message = json.loads(await socket.recv())
        if message["type"] != "error":
            self._heard = time.monotonic()
        match message["type"]:
            case "ack":
                self.backlog.ack(message["offset"])
                self._room.set()
            case "final":
                self._next_utterance = max(self._next_utterance, message["utterance"] + 1)
            case "error" if message["code"] in RETRIED:
                raise _InterruptedError(message["message"], by_server=True)
            case "error" if message["code"] in ENDED_WHILE_AWAY and self._resume_token:
                return None
            case "error" if message["fatal"]:
                raise ClientError(f"{message['message']} ({message['code']})")
        self._on_message(message)
        return message

    async def _send(self, socket: ClientConnection, source: "_Source") -> None:
        try:
            await self._send_all(socket, source)
        except Exception:
            await socket.close()  # wakes the receiver, which then says why
            raise

    async def _send_all(self, socket: ClientConnection, source: "_Source") -> None:
        while True:
            while (block := self.backlog.unsent()) is not None:
                await socket.send(block)
            if source.is_dry:
                break
            while self.backlog.ahead_samples > self._most_ahead:
                self._room.clear()
                await self._room.wait()
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
        """The end of a session that ended while nobody listened, or before its transcript was stitched."""
        import httpx2  # noqa: PLC0415 - a rare path, and a slow import

        url = http_url(self._base, f"/v1/sessions/{self.session_id}/transcript")
        deadline = time.monotonic() + self._patience_s
        async with httpx2.AsyncClient(timeout=OPEN_TIMEOUT_S, headers=self._headers) as client:
            while time.monotonic() < deadline:
                try:
                    answer = await client.get(url)
                    document = answer.json() if answer.status_code == httpx2.codes.OK else {}
                except (httpx2.HTTPError, ValueError):
                    document = {}
                if document.get("state") == "closed":
                    return {"type": "session_end", **document}
                await asyncio.sleep(RETRY_FIRST_S)
        raise ClientError(f"the session ended, and its transcript is not there yet; look at {url}")


class _Source:
    """Moves audio from where it comes from into the backlog, at the speed of speech if asked to."""

    def __init__(self, blocks: Iterator[bytes], rate_hz: int, backlog: UnackedAudio, *, realtime: bool) -> None:
        self.is_dry = False
        self._blocks = blocks
        self._rate_hz = rate_hz
        self._backlog = backlog
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
            self.is_dry = True
            return
        self._backlog.push(block)
        if self._realtime:
            now = time.monotonic()
            self._started = self._started or now
            await asyncio.sleep(self._started + self._backlog.end_samples / self._rate_hz - now)


def _in_thread(read: Callable[[], bytes | None]) -> asyncio.Future[bytes | None]:
    """The result of a call that blocks; unlike with an executor, Ctrl-C doesn't wait for a pipe that gives nothing."""
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
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, block, failure)

    threading.Thread(target=run, daemon=True).start()
    return future


def stream_url(base: str, parameters: dict[str, str]) -> str:
    """The WebSocket address of the edge at `base` (http, https, ws or wss, with or without a path)."""
    parts = urlsplit(base if "://" in base else f"http://{base}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, _root(parts.path) + "/v1/transcribe/stream", urlencode(parameters), ""))


def http_url(base: str, path: str) -> str:
    """The HTTP address of a path on the edge at `base`."""
    parts = urlsplit(base if "://" in base else f"http://{base}")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, _root(parts.path) + path, "", ""))


def _root(path: str) -> str:
    return path.removesuffix("/v1/transcribe/stream").rstrip("/")
