"""The feed's one reader per process: every session's events to its sockets."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from eventlog.bells import Bells
from eventlog.feed import FeedKind, FeedMessage, decode_message, read_feed
from eventlog.keys import RunKeys
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.server import Server

logger = logging.getLogger(__name__)

CATCH_UPS_AT_ONCE = 32
"""Feeds read at the same time after a reset: bounded, so that a reconnect of thousands doesn't flood Redis."""

FEED_PAGE = 1000
"""Events per read: some 200 kB."""

PAUSE_S = 0.5
"""After a failed catch-up; bells announce Redis's return, this covers what they don't see."""


class Sink:
    """What a listener does with what it hears: nothing, where a method isn't overridden. None of it may block."""

    __slots__ = ()

    def on_event(self, position: Position, body: str, *, last: bool) -> None:
        """An event of the feed, each once and in order, with its place there; `last` is the session's end."""

    def on_partial(self, body: str) -> None:
        """A provisional text."""

    def on_answer(self, body: str) -> None:
        """A `ProvisionalAnswer`, perhaps to somebody else's request."""

    def on_document(self) -> None:
        """The stitched transcript can be read."""

    def on_superseded(self, epoch: int) -> None:
        """A newer connection took the session."""

    def on_reset(self) -> None:
        """The log went back behind what was heard: the feed comes anew."""


class Listener:
    """One socket's place in one run's feed."""

    __slots__ = ("keys", "position", "sink")

    def __init__(self, keys: RunKeys, position: Position, sink: Sink) -> None:
        """Hear everything after `position`."""
        self.keys = keys
        self.position = position
        self.sink = sink


class Fanout:
    """Subscribes to all partitions' feed channels and reads the feeds where a message was missed."""

    def __init__(self, server: Server) -> None:
        """Read from `server`."""
        self._server = server
        self._listeners: dict[str, list[Listener]] = {}
        self._behind: dict[Listener, bool] = {}
        self._reading: set[Listener] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        channels = [partition.feed_channel for partition in server.keys.partitions]
        self._bells = Bells(server, channels, self._on_message, self._on_reset)

    async def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.create_task(self._catch_up(), name="fanout")
        await self._bells.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._bells.stop()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def add(self, listener: Listener) -> None:
        """Let `listener` hear what comes from now on; `look` gives it what there is."""
        self._listeners.setdefault(listener.keys.member, []).append(listener)

    def remove(self, listener: Listener) -> None:
        """Forget `listener`; harmless if it is unknown."""
        self._behind.pop(listener, None)
        there = self._listeners.get(listener.keys.member)
        if there and listener in there:
            there.remove(listener)
            if not there:
                del self._listeners[listener.keys.member]

    def look(self, listener: Listener, *, lost: bool = False) -> None:
        """Read the feed for `listener` soon; `lost`: Redis was away, so the log may have gone back meanwhile."""
        self._behind[listener] = lost or self._behind.get(listener, False)
        self._wake.set()

    def _on_reset(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                self.look(listener, lost=True)

    def _on_message(self, _channel: str, data: bytes) -> None:
        try:
            message = decode_message(data)
            for listener in tuple(self._listeners.get(message.member, ())):
                self._pass_on(listener, message)
        except (msgspec.DecodeError, ValueError):
            logger.warning("a message on a feed channel is none", extra={"bytes": len(data)})

    def _pass_on(self, listener: Listener, message: FeedMessage) -> None:
        kind, sink = message.kind, listener.sink
        if kind == FeedKind.PARTIAL:
            if not message.position or Position.parse(message.position) >= listener.position:
                sink.on_partial(message.body)
        elif kind == FeedKind.EVENT:
            position = Position.parse(message.position)
            if position <= listener.position:
                return
            behind = listener in self._behind or listener in self._reading
            if behind or Position.parse(message.previous or "0-0") != listener.position:
                self.look(listener)
            else:
                _deliver(listener, position, message.body)
        elif kind == FeedKind.DOCUMENT:
            sink.on_document()
        elif kind == FeedKind.SUPERSEDED:
            sink.on_superseded(int(message.body))
        elif kind == FeedKind.ANSWER:
            sink.on_answer(message.body)

    async def _catch_up(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._behind:
                some = [self._behind.popitem() for _ in range(min(CATCH_UPS_AT_ONCE, len(self._behind)))]
                # What comes while they read may be in the answer or not: they are marked as behind once more.
                self._reading.update(listener for listener, _ in some)
                reads = (self._read(listener, lost=lost) for listener, lost in some)
                answers = await asyncio.gather(*reads, return_exceptions=True)
                self._reading.clear()
                if trouble := [answer for answer in answers if isinstance(answer, BaseException)]:
                    logger.warning("feeds not read, trying again: %s", type(trouble[0]).__name__)
                    for (listener, lost), answer in zip(some, answers, strict=True):
                        if isinstance(answer, BaseException) and self._knows(listener):
                            self.look(listener, lost=lost)
                    await asyncio.sleep(PAUSE_S)

    async def _read(self, listener: Listener, *, lost: bool) -> None:
        if lost and await self.last_position(listener.keys) < listener.position:
            listener.position = START
            listener.sink.on_reset()
        events = await read_feed(self._server, listener.keys, listener.position, limit=FEED_PAGE)
        for position, body in events:
            if position > listener.position:
                _deliver(listener, position, body.decode())
        if len(events) == FEED_PAGE:
            self.look(listener)

    def _knows(self, listener: Listener) -> bool:
        return listener in self._listeners.get(listener.keys.member, ())

    async def last_position(self, keys: RunKeys) -> Position:
        """Where the feed ends now, facts that make no event included.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        found = await self._server.execute_many(
            [("XREVRANGE", keys.feed, "+", "-", "COUNT", 1), ("GET", keys.projected("feeds"))]
        )
        for answer in found:
            if isinstance(answer, Exception):
                raise answer
        entries, applied = found
        position = max(
            Position.parse(entries[0][0]) if entries else START, Position.parse(applied) if applied else START
        )
        return START if position == OPENED else position


def _deliver(listener: Listener, position: Position, body: str) -> None:
    listener.position = position
    if body:  # else a fact that clients don't hear of
        listener.sink.on_event(position, body, last=position == SEALED)
