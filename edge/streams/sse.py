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
from edge.streams.fan_out import FanOut, Listener, Subscriber
from eventlog.keys import RunKeys
from eventlog.positions import START

MEDIA_TYPE = "text/event-stream"

HEADERS = {"cache-control": "no-cache", "connection": "keep-alive", "x-accel-buffering": "no"}

RETRY_MS = 3000
"""A client that was cut off comes back after this long: what browsers do on their own."""

SLOW_RETRY_MS = 10_000
"""One that was too slow gets time to get over it."""

DRAIN_RETRY_MS = (500, 5_000)
"""Spread out, or all listeners of a replica that leaves would come to the others in the same instant."""

RETRY_AFTER_S = 10
"""Listeners come and go within seconds; asked more often, a full process would be kept busy by refusals."""

SWEEPS_PER_KEEPALIVE = 15
"""With the default a sweep a second, each a few milliseconds for 5,000 listeners."""

_RAW_HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()), *((name.encode(), value.encode()) for name, value in HEADERS.items()),
]  # fmt: skip


def event(kind: str, data: str, entry_id: str = "") -> bytes:
    """One event as it goes over the wire; `data` is JSON, so on one line."""
    head = f"id: {entry_id}\n" if entry_id else ""
    return f"event: {kind}\n{head}data: {data}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """The hint when to come back."""
    return b"retry: %d\n\n" % milliseconds


class EventStream(Subscriber):
    """One listener: what it hears of a run goes straight to its line, until it is full, over or gone."""

    __slots__ = ("_line", "full_since", "lapses_at", "listener", "place", "streams", "user")

    def __init__(self, streams: EventStreams, listener: Listener, user: str, lapses_in_s: float | None) -> None:
        """Pass on what `listener` hears; `user` is whom it counts for, empty for nobody."""
        self.streams = streams
        self.listener = listener
        self.user = user
        self.lapses_at = None if lapses_in_s is None else streams.clock() + lapses_in_s
        self.full_since: float | None = None
        self.place = 0
        self._line: SseTransport | None = None
        listener.sink = self

    def begin(self, line: SseTransport, greeting: bytes) -> None:
        """Send `greeting`, and from now on what is heard."""
        self._line = line
        self.streams.begun(self)
        self.push(greeting)

    def is_full(self) -> bool:
        """See `Subscriber`; one that is over takes nothing either."""
        return self.full_since is not None or self._line is None

    def push(self, data: bytes) -> None:
        """Send `data`; past the bound nothing more is taken until the client has read."""
        if self._line is not None:
            self._line.push(data)
            if self.full_since is None and self._line.backlog_bytes > self.streams.buffer_bytes:
                self.full_since = self.streams.clock()
                self.streams.full[self] = None

    def finish(self, last: bytes = b"") -> None:
        """Send `last` and end; harmless if it is over."""
        line, self._line = self._line, None
        if line is not None:
            self.streams.ended(self)
            if last:
                line.push(last)
            line.finish()

    def on_drained(self) -> None:
        """See `TransportObserver`."""
        if self.full_since is not None and self._line is not None:
            self.full_since = None
            self.streams.full.pop(self, None)
            self.streams.fanout.look(self.listener, lost=True)

    def turn(self, keys: RunKeys) -> None:
        """Hear another run, from its beginning; what is still being read of the one before is nobody's."""
        before, fanout = self.listener, self.streams.fanout
        fanout.remove(before)
        before.let_go()
        self.listener = Listener(keys, START, self)
        fanout.add(self.listener)
        fanout.look(self.listener)

    def on_lost(self) -> None:
        """See `TransportObserver`."""
        if self._line is not None:
            self._line = None
            self.streams.ended(self)

    def on_gone(self) -> None:
        """See `Subscriber`: who comes back is told that there is no such session."""
        self.finish()

    def tend(self, now: float) -> None:
        """What the sweep does: keep proxies awake, and end what is open for too long."""
        if self.lapses_at is not None and now >= self.lapses_at:
            self.finish(retry(RETRY_MS))
        elif self.full_since is None:
            self.push(b": keep-alive\n\n")


class EventStreams:
    """All event streams of a process: how many, whose, and the one sweep that looks after them."""

    def __init__(self, fanout: FanOut, settings: EdgeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Hear by `fanout`, within the bounds of `settings`."""
        self.fanout = fanout
        self.clock = clock
        self.buffer_bytes = settings.max_sse_buffer_bytes
        self.full: dict[EventStream, None] = {}
        self.sweep_s = settings.sse_keepalive_s / SWEEPS_PER_KEEPALIVE
        self._slow_s = settings.sse_slow_timeout_s
        self._most = settings.max_sse_listeners
        self._most_each = settings.max_sse_listeners_per_user
        self._admitted = 0
        self._users: Counter[str] = Counter()
        self._places: list[dict[EventStream, None]] = [{} for _ in range(SWEEPS_PER_KEEPALIVE)]
        self._turn = self._next = 0
        self._draining = False
        self.dropped_slow = 0

    @property
    def count(self) -> int:
        """Streams that are open, those whose answer is only about to begin included."""
        return self._admitted

    def require_room(self, user: str) -> None:
        """Refuse one that is too many.

        Raises:
            ApiError: `too_many_listeners`, or `going_away`.
        """
        if self._draining:
            raise ApiError(errors.GOING_AWAY, "this replica shuts down", retry_after_s=1)
        if self._admitted >= self._most:
            raise ApiError(
                errors.TOO_MANY_LISTENERS, f"this process has {self._most} event streams open",
                retry_after_s=RETRY_AFTER_S,
            )  # fmt: skip
        if user and self._users[user] >= self._most_each:
            raise ApiError(
                errors.TOO_MANY_LISTENERS, f"you have {self._most_each} event streams open at this replica",
                retry_after_s=RETRY_AFTER_S,
            )  # fmt: skip

    def admit(self, stream: EventStream) -> None:
        """Count `stream`, which must be begun or given back by `release`.

        Raises:
            ApiError: as `require_room`.
        """
        self.require_room(stream.user)
        self._admitted += 1
        if stream.user:
            self._users[stream.user] += 1

    def release(self, user: str) -> None:
        """Give an admitted place back."""
        self._admitted -= 1
        if user:
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]

    def begun(self, stream: EventStream) -> None:
        """Let it hear, and keep it awake from now on."""
        self._next = (self._next + 1) % SWEEPS_PER_KEEPALIVE  # spread, also when thousands come at once
        stream.place = self._next
        self._places[stream.place][stream] = None
        self.fanout.add(stream.listener)

    def ended(self, stream: EventStream) -> None:
        """Free everything of it."""
        self.fanout.remove(stream.listener)
        self._places[stream.place].pop(stream, None)
        self.full.pop(stream, None)
        self.release(stream.user)

    async def sweep(self) -> None:
        """Tend the streams whose turn it is, and drop those that have been full for too long."""
        now = self.clock()
        for stream in tuple(self.full):
            if stream.full_since is not None and now - stream.full_since >= self._slow_s:
                self.dropped_slow += 1
                stream.finish(retry(SLOW_RETRY_MS))
        self._turn = (self._turn + 1) % SWEEPS_PER_KEEPALIVE
        for stream in tuple(self._places[self._turn]):
            stream.tend(now)

    def drain(self) -> None:
        """Take no more, and send everybody elsewhere."""
        self._draining = True
        for place in self._places:
            for stream in tuple(place):
                stream.finish(retry(random.randint(*DRAIN_RETRY_MS)))  # noqa: S311 - no secret


class EventStreamResponse(Response):
    """The answer that becomes an event stream; its place is already counted."""

    media_type = MEDIA_TYPE

    def __init__(self, stream: EventStream, greeting: bytes, *, look: bool, is_over: bool = False) -> None:
        """Begin with `greeting`; `look` for what the listener hasn't got, or end if it `is_over` with that."""
        super().__init__(headers=HEADERS)
        self._stream = stream
        self._greeting = retry(RETRY_MS) + greeting
        self._look = look
        self._is_over = is_over

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        stream, streams = self._stream, self._stream.streams
        begun = False
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
            if scope["method"] != "HEAD":
                protocol = scope.get("state", {}).get(STATE_KEY)
                line: SseTransport = AsgiTransport(stream)
                if isinstance(protocol, SseProtocol) and protocol.take_over(
                    stream, buffer_bytes=streams.buffer_bytes
                ):
                    line = protocol
                begun = True
                self._begin(line)
                if isinstance(line, AsgiTransport):
                    await line.run(receive, send)
                return
        finally:
            if not begun:
                streams.release(stream.user)
        await send({"type": "http.response.body", "body": b""})

    def _begin(self, line: SseTransport) -> None:
        self._stream.begin(line, self._greeting)
        if self._is_over:
            self._stream.finish()
        elif self._look:
            self._stream.streams.fanout.look(self._stream.listener, lost=self._stream.listener.position > START)
