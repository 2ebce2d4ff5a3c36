"""Server-sent events: one stream, and all streams of a process with their bounds and their one sweep."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.responses import Response

from edge import errors
from edge.errors import ApiError
from edge.server.sse_transport import STATE_KEY, AsgiTransport, Receive, Send, SseProtocol, SseTransport
from edge.settings import EdgeSettings
from edge.streams.fan_out import FanOut, FeedCursor, Subscriber
from eventlog.keys import RunKeys
from eventlog.positions import START, Position
from eventlog.readmodel.feed import FeedKind

MEDIA_TYPE = "text/event-stream"

HEADERS = {"cache-control": "no-cache", "connection": "keep-alive", "x-accel-buffering": "no"}

RETRY_MS = 3000
"""A client that was cut off reconnects after this long: the default of browsers."""

SLOW_RETRY_MS = 10_000
"""A client that was too slow gets time to recover."""

DRAIN_RETRY_MS = (500, 5_000)
"""Spread out, or all clients of a draining replica would connect to the others in the same instant."""

RETRY_AFTER_S = 10
"""Streams begin and end within seconds; retries more often would keep a full process busy with refusals."""

SWEEPS_PER_KEEPALIVE = 15
"""With the default a sweep a second, each a few milliseconds for 5,000 streams."""

_RAW_HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()), *((name.encode(), value.encode()) for name, value in HEADERS.items()),
]  # fmt: skip


def event(kind: str, data: str, entry_id: str = "") -> bytes:
    """Encode one event for the wire; `data` is JSON, so on one line."""
    head = f"id: {entry_id}\n" if entry_id else ""
    return f"event: {kind}\n{head}data: {data}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """Encode the hint when to reconnect."""
    return b"retry: %d\n\n" % milliseconds


class EventStream(Subscriber):
    """One stream: writes each event that it receives to its connection at once, until it is full, over or gone."""

    __slots__ = ("_line", "cursor", "expires_at", "full_since", "slot", "streams", "user")

    kind = FeedKind.EVENT

    def __init__(
        self, streams: EventStreams, keys: RunKeys, position: Position, user: str, expires_in_s: float | None
    ) -> None:
        """Stream the events of the run after `position`; `user` is whose limit it counts for, empty for no user."""
        self.streams = streams
        self.cursor = FeedCursor(keys, position, self, self.kind)
        self.user = user
        self.expires_at = None if expires_in_s is None else streams.clock() + expires_in_s
        self.full_since: float | None = None
        self.slot = 0
        self._line: SseTransport | None = None

    def begin(self, line: SseTransport, greeting: bytes) -> None:
        """Send `greeting`, and from now on the events."""
        self._line = line
        self.streams.add(self)
        self.push(greeting)

    def is_full(self) -> bool:
        """See `Subscriber`; one that is over accepts nothing either."""
        return self.full_since is not None or self._line is None

    def push(self, data: bytes) -> None:
        """Send `data`; past the bound the stream accepts nothing more until the client has read."""
        if self._line is not None:
            self._line.push(data)
            if self.full_since is None and self._line.backlog_bytes > self.streams.buffer_bytes:
                self.full_since = self.streams.clock()
                self.streams.full[self] = None

    def finish(self, last: bytes = b"") -> None:
        """Send `last` and end; harmless if it is over."""
        line, self._line = self._line, None
        if line is not None:
            self.streams.remove(self)
            if last:
                line.push(last)
            line.finish()

    def on_drained(self) -> None:
        """See `TransportObserver`."""
        if self.full_since is not None and self._line is not None:
            self.full_since = None
            self.streams.full.pop(self, None)
            self.streams.fanout.catch_up(self.cursor, check_reset=True)

    def switch_run(self, keys: RunKeys) -> None:
        """Stream another run from its start; reads of the former run that are under way deliver nothing any more."""
        former, fanout = self.cursor, self.streams.fanout
        fanout.remove(former)
        former.detach()
        self.cursor = FeedCursor(keys, START, self, self.kind)
        fanout.add(self.cursor)
        fanout.catch_up(self.cursor)

    def on_lost(self) -> None:
        """See `TransportObserver`."""
        if self._line is not None:
            self._line = None
            self.streams.remove(self)

    def on_gone(self) -> None:
        """See `Subscriber`: a client that reconnects gets `unknown_session`."""
        self.finish()

    def sweep(self, now: float) -> None:
        """Keep proxies awake, and end the stream once the caller's token has expired."""
        if self.expires_at is not None and now >= self.expires_at:
            self.finish(retry(RETRY_MS))
        elif self.full_since is None:
            self.push(b": keep-alive\n\n")


class EventStreams:
    """All event streams of a process: their limits, and the one sweep over them."""

    def __init__(self, fanout: FanOut, settings: EdgeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Subscribe to `fanout`, within the bounds of `settings`."""
        self.fanout = fanout
        self.clock = clock
        self.buffer_bytes = settings.max_sse_buffer_bytes
        self.full: dict[EventStream, None] = {}
        self.sweep_s = settings.sse_keepalive_s / SWEEPS_PER_KEEPALIVE
        self._slow_timeout_s = settings.sse_slow_timeout_s
        self._max_streams = settings.max_sse_listeners
        self._max_streams_per_user = settings.max_sse_listeners_per_user
        self._admitted = 0
        self._users: Counter[str] = Counter()
        self._slots: list[dict[EventStream, None]] = [{} for _ in range(SWEEPS_PER_KEEPALIVE)]
        self._last_swept = self._last_added = 0
        self._is_draining = False
        self.dropped_slow = 0

    @property
    def count(self) -> int:
        """Streams that are open, including those whose answer has not begun yet."""
        return self._admitted

    def require_room(self, user: str) -> None:
        """Refuse a stream that exceeds a limit.

        Raises:
            ApiError: `too_many_listeners`, or `going_away`.
        """
        if self._is_draining:
            raise ApiError(errors.GOING_AWAY, "this replica is shutting down", retry_after_s=1)
        if self._admitted >= self._max_streams:
            raise ApiError(
                errors.TOO_MANY_LISTENERS, f"this process has {self._max_streams} event streams open",
                retry_after_s=RETRY_AFTER_S,
            )  # fmt: skip
        if user and self._users[user] >= self._max_streams_per_user:
            raise ApiError(
                errors.TOO_MANY_LISTENERS, f"you have {self._max_streams_per_user} event streams open at this replica",
                retry_after_s=RETRY_AFTER_S,
            )  # fmt: skip

    def admit(self, stream: EventStream) -> None:
        """Count `stream`, which its response then begins or takes back by `release`.

        Raises:
            ApiError: as `require_room`.
        """
        self.require_room(stream.user)
        self._admitted += 1
        if stream.user:
            self._users[stream.user] += 1

    def release(self, user: str) -> None:
        """Take an admission back."""
        self._admitted -= 1
        if user:
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]

    def add(self, stream: EventStream) -> None:
        """Deliver events to an admitted stream, and sweep it from now on."""
        self._last_added = (self._last_added + 1) % SWEEPS_PER_KEEPALIVE  # spread, also when thousands come at once
        stream.slot = self._last_added
        self._slots[stream.slot][stream] = None
        self.fanout.add(stream.cursor)

    def remove(self, stream: EventStream) -> None:
        """Free everything of a stream that is over."""
        self.fanout.remove(stream.cursor)
        self._slots[stream.slot].pop(stream, None)
        self.full.pop(stream, None)
        self.release(stream.user)

    async def sweep(self) -> None:
        """Sweep the streams of the next slot, and drop all that have been full for too long."""
        now = self.clock()
        for stream in tuple(self.full):
            if stream.full_since is not None and now - stream.full_since >= self._slow_timeout_s:
                self.dropped_slow += 1
                stream.finish(retry(SLOW_RETRY_MS))
        self._last_swept = (self._last_swept + 1) % SWEEPS_PER_KEEPALIVE
        for stream in tuple(self._slots[self._last_swept]):
            stream.sweep(now)

    def drain(self) -> None:
        """Accept no more streams, and send every client to another replica."""
        self._is_draining = True
        for slot in self._slots:
            for stream in tuple(slot):
                stream.finish(retry(random.randint(*DRAIN_RETRY_MS)))  # noqa: S311 - no secret


class EventStreamResponse(Response):
    """The answer that becomes an event stream; the stream is already admitted."""

    media_type = MEDIA_TYPE

    def __init__(self, stream: EventStream, greeting: bytes, *, is_over: bool) -> None:
        """Begin with `greeting`; then end if it `is_over` with that, or else catch up."""
        super().__init__(headers=HEADERS)
        self._stream = stream
        self._greeting = retry(RETRY_MS) + greeting
        self._is_over = is_over

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        stream, streams = self._stream, self._stream.streams
        has_started = False
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
            if scope["method"] != "HEAD":
                protocol = scope.get("state", {}).get(STATE_KEY)
                line: SseTransport = AsgiTransport(stream)
                if isinstance(protocol, SseProtocol) and protocol.take_over(
                    stream, buffer_bytes=streams.buffer_bytes
                ):
                    line = protocol
                has_started = True
                self._begin(line)
                if isinstance(line, AsgiTransport):
                    await line.run(receive, send)
                return
        finally:
            if not has_started:
                streams.release(stream.user)
        await send({"type": "http.response.body", "body": b""})

    def _begin(self, line: SseTransport) -> None:
        stream = self._stream
        stream.begin(line, self._greeting)
        if self._is_over:
            stream.finish()
        else:
            stream.streams.fanout.catch_up(stream.cursor, check_reset=stream.cursor.position > START)
