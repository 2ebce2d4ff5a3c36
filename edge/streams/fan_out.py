"""The feed's one reader per process: every session's events, and its status messages, to whoever listens."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from eventlog.keys import RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.readmodel.feed import FeedKind, FeedMessage, decode_message
from eventlog.redis.server import Argument, Server
from eventlog.redis.wakeups import Wakeups

logger = logging.getLogger(__name__)

CATCH_UPS_AT_ONCE = 32
"""Feeds read at the same time after a reset: bounded, so that a reconnect of thousands doesn't flood Redis."""

FEED_PAGE = 1000
"""Events per read: some 200 kB."""

PAUSE_S = 0.5
"""After a failed catch-up; bells announce Redis's return, this covers what they don't see."""

CHECK_S = 30.0
"""Each run's listeners are compared with its streams this often. A message is published by the script that makes it, so
it is lost only with the connection, after which everything is read anyway: this is for what nobody thought of."""

CHECK_EVERY_S = 1.0
"""Between two parts of that: with 5,000 runs some 170 are looked at together, 2 ms of Redis's time."""


class Subscriber:
    """What a listener does with what it hears: nothing, where a method isn't overridden. None of it may block."""

    __slots__ = ()

    def is_full(self) -> bool:
        """Whether it takes nothing now; once it does again, `FanOut.look` brings what it has missed."""
        return False

    def on_event(self, position: Position, body: str, *, last: bool) -> None:
        """An event, each once and in order, with its place in its stream; `last` is the session's end.

        Of a listener of statuses these are the status messages, and none of them is `last`.
        """

    def on_partial(self, body: str) -> None:
        """A provisional text."""

    def on_answer(self, body: str) -> None:
        """A `ProvisionalAnswer`, perhaps to somebody else's request."""

    def on_document(self) -> None:
        """The stitched transcript can be read."""

    def on_superseded(self, epoch: int) -> None:
        """A newer connection took the session."""

    def on_gone(self) -> None:
        """The session was erased."""

    def on_promoted(self, run: str) -> None:
        """Another run of the session is promoted now."""

    def on_reset(self) -> None:
        """The log went back behind what was heard: the feed comes anew."""


_NOBODY = Subscriber()


class Listener:
    """One socket's place in one run's feed, or among its status messages."""

    __slots__ = ("keys", "kind", "position", "sink")

    def __init__(
        self, keys: RunKeys, position: Position, sink: Subscriber, kind: FeedKind = FeedKind.EVENT
    ) -> None:
        """Hear everything of `kind`, `EVENT` or `STATUS`, after `position`."""
        self.keys = keys
        self.position = position
        self.sink = sink
        self.kind = kind

    def let_go(self) -> None:
        """Tell nobody any more, so that nothing leads back to whoever has it."""
        self.sink = _NOBODY

    @property
    def stream(self) -> str:
        """The key that it catches up from."""
        return self.keys.feed if self.kind == FeedKind.EVENT else self.keys.status


class FanOut:
    """Subscribes to all partitions' feed channels and reads the feeds where a message was missed."""

    def __init__(self, server: Server) -> None:
        """Read from `server`."""
        self._server = server
        self._listeners: dict[str, list[Listener]] = {}
        self._behind: dict[Listener, bool] = {}
        self._reading: set[Listener] = set()
        self._wake = asyncio.Event()
        self._unchecked: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        channels = [partition.feed_channel for partition in server.keys.partitions]
        self._bells = Wakeups(server, channels, self._on_message, self._on_reset)

    async def start(self) -> None:
        """Begin to listen."""
        self._tasks = [
            asyncio.create_task(self._catch_up(), name="fanout"),
            asyncio.create_task(self._check_now_and_then(), name="fanout check"),
        ]
        await self._bells.start()

    async def wait(self) -> None:
        """Return, or raise the defect, as soon as one of the tasks ends; before `stop`, none should."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """Stop listening."""
        await self._bells.stop()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listening(self) -> None:
        """Return as soon as every channel is heard."""
        await self._bells.listening()

    def count(self) -> int:
        """How many listeners there are."""
        return sum(map(len, self._listeners.values()))

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
        elif kind in _STREAMED:
            position = Position.parse(message.position)
            if kind != listener.kind or position <= listener.position or sink.is_full():
                return
            behind = listener in self._behind or listener in self._reading
            if behind or Position.parse(message.previous or "0-0") != listener.position:
                self.look(listener)
            else:
                _deliver(listener, position, message.body)
        else:
            _tell(sink, message)

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
                    logger.warning("feeds not read, trying again", extra={"error": trouble[0]})
                    for (listener, lost), answer in zip(some, answers, strict=True):
                        if isinstance(answer, BaseException) and self._knows(listener):
                            self.look(listener, lost=lost)
                    await asyncio.sleep(PAUSE_S)

    async def _read(self, listener: Listener, *, lost: bool) -> None:
        if listener.sink.is_full():
            return  # it looks again when there is room
        if lost and (end := await self._end(listener)) < listener.position:
            # Events come anew from the start; of statuses the last one says it all.
            is_status = listener.kind == FeedKind.STATUS and end > START
            listener.position = Position(end.offset - 1, 0) if is_status else START
            listener.sink.on_reset()
        if listener.position == SEALED:
            return  # nothing comes after the end, and Redis refuses a range that starts there
        # In this order: what is applied by the first answer stands in the second.
        applied, entries = await self._ask(
            ("GET", listener.keys.projected("feeds")),
            ("XRANGE", listener.stream, f"({listener.position}", "+", "COUNT", FEED_PAGE),
        )
        for entry_id, fields in entries:
            if listener.sink.is_full():
                return
            if (position := Position.parse(entry_id)) > listener.position:
                _deliver(listener, position, fields[1].decode())
        if len(entries) == FEED_PAGE:
            self.look(listener)
        elif listener.kind == FeedKind.EVENT and applied and (reached := Position.parse(applied)) > OPENED:
            # Past facts that make no event, or each message after them would look like a gap.
            listener.position = max(listener.position, reached)

    def _knows(self, listener: Listener) -> bool:
        return listener in self._listeners.get(listener.keys.member, ())

    async def last_position(self, keys: RunKeys) -> Position:
        """Where the feed ends now, facts that make no event included.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        entries, applied = await self._ask(
            ("XREVRANGE", keys.feed, "+", "-", "COUNT", 1), ("GET", keys.projected("feeds"))
        )
        position = max(
            Position.parse(entries[0][0]) if entries else START, Position.parse(applied) if applied else START
        )
        return START if position == OPENED else position

    async def _end(self, listener: Listener) -> Position:
        if listener.kind == FeedKind.EVENT:
            return await self.last_position(listener.keys)
        [entries] = await self._ask(("XREVRANGE", listener.stream, "+", "-", "COUNT", 1))
        return Position.parse(entries[0][0]) if entries else START

    async def _ask(self, *commands: tuple[Argument, ...]) -> list[Any]:
        answers = await self._server.execute_many(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _check_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            try:
                await self.check(max(1, round(len(self._listeners) * CHECK_EVERY_S / CHECK_S)))
            except LogUnavailableError as error:
                logger.debug("listeners not checked", extra={"error": error})
            except Exception:  # it must go on, whatever one look ran into
                logger.exception("checking listeners failed by a defect")

    async def check(self, runs: int) -> None:
        """Look whether listeners of the next `runs` runs have missed anything; once all were looked at, begin again.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        self._unchecked = self._unchecked or list(self._listeners)
        members, self._unchecked = self._unchecked[:runs], self._unchecked[runs:]
        asked = [listener for member in members for listener in self._listeners.get(member, ())[:1]]
        answers = await self._ask(*(
            command for one in asked for command in (
                ("EXISTS", one.keys.transcript),
                ("XREVRANGE", one.keys.feed, "+", "-", "COUNT", 1),
                ("XREVRANGE", one.keys.status, "+", "-", "COUNT", 1),
            )
        ))  # fmt: skip
        for one, there, events, statuses in zip(asked, answers[::3], answers[1::3], answers[2::3], strict=True):
            for listener in tuple(self._listeners.get(one.keys.member, ())):
                found = events if listener.kind == FeedKind.EVENT else statuses
                if not there:
                    listener.sink.on_gone()
                elif found and Position.parse(found[0][0]) != listener.position:
                    self.look(listener, lost=True)


_STREAMED = frozenset({FeedKind.EVENT, FeedKind.STATUS})


def _tell(sink: Subscriber, message: FeedMessage) -> None:
    match message.kind:
        case FeedKind.DOCUMENT:
            sink.on_document()
        case FeedKind.SUPERSEDED:
            sink.on_superseded(int(message.body))
        case FeedKind.ANSWER:
            sink.on_answer(message.body)
        case FeedKind.GONE:
            sink.on_gone()
        case FeedKind.PROMOTED:
            sink.on_promoted(message.body)


def _deliver(listener: Listener, position: Position, body: str) -> None:
    listener.position = position
    if body:  # else a fact that clients don't hear of
        listener.sink.on_event(position, body, last=position == SEALED)
