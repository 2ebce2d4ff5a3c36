"""The process's one reader of feeds: passes every session's events and status messages to its subscribers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from eventlog.keys import RunKeys
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.readmodel.feed import FeedKind, FeedMessage, decode_message
from eventlog.redis.server import Argument, Server
from eventlog.redis.wakeups import Wakeups
from eventlog.service import ServiceTasks, periodically

logger = logging.getLogger(__name__)

CATCH_UPS_AT_ONCE = 32
"""Feeds read at the same time after a reset: bounded, so that a reconnect of thousands does not flood Redis."""

FEED_PAGE = 1000
"""Events per read: some 200 kB."""

PAUSE_S = 0.5
"""After a failed read. A reconnect of the channels announces Redis's return; this is for failures that break none."""

CHECK_S = 30.0
"""Each run's cursors are compared with its streams this often. The script that makes a message also publishes it, so
a message is lost only with the connection, after which everything is read anyway: this is for unforeseen losses."""

CHECK_EVERY_S = 1.0
"""Between two parts of that: with 5,000 runs some 170 are checked together, 2 ms of Redis's time."""


class Subscriber:
    """Receives a run's feed; every method that a subclass does not override does nothing. None of them may block."""

    __slots__ = ()

    def is_full(self) -> bool:
        """Whether it accepts nothing now; once it does again, `FanOut.catch_up` brings the missed events."""
        return False

    def on_event(self, position: Position, body: str, *, last: bool) -> None:
        """Receive an event, each once and in order, with its place in its stream; `last` is the session's end.

        A subscriber to statuses gets the status messages, and none of them is `last`.
        """

    def on_partial(self, body: str) -> None:
        """Receive a provisional text."""

    def on_speech(self, body: str) -> None:
        """An utterance has begun."""

    def on_answer(self, body: str) -> None:
        """Receive a `ProvisionalAnswer`, perhaps to another request."""

    def on_document(self) -> None:
        """The stitched transcript can be read."""

    def on_superseded(self, epoch: int) -> None:
        """A newer connection took the session."""

    def on_gone(self) -> None:
        """The session was erased."""

    def on_promoted(self, run: str) -> None:
        """Another run of the session is promoted now."""

    def on_reset(self) -> None:
        """The log lost events that were delivered: the feed comes again from its start."""


_DETACHED = Subscriber()


class FeedCursor:
    """A subscriber's place in one run's feed, or among its status messages."""

    __slots__ = ("keys", "kind", "position", "subscriber")

    def __init__(
        self, keys: RunKeys, position: Position, subscriber: Subscriber, kind: FeedKind = FeedKind.EVENT
    ) -> None:
        """Deliver everything of `kind`, `EVENT` or `STATUS`, after `position`."""
        self.keys = keys
        self.position = position
        self.subscriber = subscriber
        self.kind = kind

    def detach(self) -> None:
        """Deliver nothing any more, and drop the reference to the subscriber, so that its memory is freed at once."""
        self.subscriber = _DETACHED

    @property
    def stream(self) -> str:
        """The key that it catches up from."""
        return self.keys.feed if self.kind == FeedKind.EVENT else self.keys.status

    def deliver(self, position: Position, body: str) -> None:
        """Pass an event on, and move past it."""
        self.position = position
        if body:  # else a fact that makes no event for clients
            self.subscriber.on_event(position, body, last=position == SEALED)


class FanOut:
    """Subscribes to all partitions' feed channels, and reads the feeds where a message was missed: a `Service`."""

    def __init__(self, server: Server) -> None:
        """Read from `server`."""
        self._server = server
        self._cursors: dict[str, list[FeedCursor]] = {}
        self._behind: dict[FeedCursor, bool] = {}
        """Cursors to catch up, each with whether to check for a reset."""
        self._reading: set[FeedCursor] = set()
        self._is_behind = asyncio.Event()
        self._unchecked: list[str] = []
        self._tasks = ServiceTasks()
        channels = [partition.feed_channel for partition in server.keys.partitions]
        self._wakeups = Wakeups(server, channels, self._on_message, self._on_reset)

    async def start(self) -> None:
        """See `eventlog.service.Service`."""
        self._tasks.spawn("fan-out", self._read_feeds())
        self._tasks.spawn("fan-out check", periodically(CHECK_EVERY_S, self._check_some, name="fan-out check"))
        await self._wakeups.start()
        self._tasks.spawn("fan-out wake-ups", self._wakeups.wait())

    async def wait(self) -> None:
        """See `eventlog.service.Service`."""
        await self._tasks.wait()

    async def stop(self) -> None:
        """See `eventlog.service.Service`."""
        await self._tasks.stop()
        await self._wakeups.stop()

    async def listening(self) -> None:
        """Return as soon as every channel is subscribed."""
        await self._wakeups.listening()

    def count(self) -> int:
        """How many cursors are added."""
        return sum(map(len, self._cursors.values()))

    def add(self, cursor: FeedCursor) -> None:
        """Deliver to `cursor` every message from now on; `catch_up` delivers the earlier events."""
        self._cursors.setdefault(cursor.keys.member, []).append(cursor)

    def remove(self, cursor: FeedCursor) -> None:
        """Forget `cursor`; harmless if it is unknown."""
        self._behind.pop(cursor, None)
        cursors = self._cursors.get(cursor.keys.member)
        if cursors and cursor in cursors:
            cursors.remove(cursor)
            if not cursors:
                del self._cursors[cursor.keys.member]

    def catch_up(self, cursor: FeedCursor, *, check_reset: bool = False) -> None:
        """Read the feed for `cursor` soon; `check_reset`: the log may have lost events that were delivered."""
        self._behind[cursor] = check_reset or self._behind.get(cursor, False)
        self._is_behind.set()

    def _on_reset(self) -> None:
        for cursors in self._cursors.values():
            for cursor in cursors:
                self.catch_up(cursor, check_reset=True)

    def _on_message(self, _channel: str, data: bytes) -> None:
        try:
            message = decode_message(data)
            for cursor in tuple(self._cursors.get(message.member, ())):
                self._pass_on(cursor, message)
        except (msgspec.DecodeError, ValueError):
            logger.warning("malformed message on a feed channel; skipping it", extra={"bytes": len(data)})

    def _pass_on(self, cursor: FeedCursor, message: FeedMessage) -> None:
        subscriber = cursor.subscriber
        match message.kind:
            case FeedKind.PARTIAL | FeedKind.SPEECH:
                if not message.position or Position.parse(message.position) >= cursor.position:
                    receive = subscriber.on_partial if message.kind == FeedKind.PARTIAL else subscriber.on_speech
                    receive(message.body)
            case FeedKind.EVENT | FeedKind.STATUS:
                if message.kind == cursor.kind:
                    self._pass_on_event(cursor, message)
            case FeedKind.DOCUMENT:
                subscriber.on_document()
            case FeedKind.SUPERSEDED:
                subscriber.on_superseded(int(message.body))
            case FeedKind.ANSWER:
                subscriber.on_answer(message.body)
            case FeedKind.GONE:
                subscriber.on_gone()
            case FeedKind.PROMOTED:
                subscriber.on_promoted(message.body)

    def _pass_on_event(self, cursor: FeedCursor, message: FeedMessage) -> None:
        position = Position.parse(message.position)
        if position <= cursor.position or cursor.subscriber.is_full():
            return
        is_behind = cursor in self._behind or cursor in self._reading
        if is_behind or Position.parse(message.previous or "0-0") != cursor.position:
            self.catch_up(cursor)
        else:
            cursor.deliver(position, message.body)

    async def _read_feeds(self) -> None:
        while True:
            await self._is_behind.wait()
            self._is_behind.clear()
            while self._behind:
                some = [self._behind.popitem() for _ in range(min(CATCH_UPS_AT_ONCE, len(self._behind)))]
                # A message that arrives during the reads may be in their answers or not: it marks its cursor again.
                self._reading.update(cursor for cursor, _ in some)
                reads = (self._read(cursor, check_reset=check_reset) for cursor, check_reset in some)
                answers = await asyncio.gather(*reads, return_exceptions=True)
                self._reading.clear()
                if failures := [answer for answer in answers if isinstance(answer, BaseException)]:
                    logger.warning("feeds not read; retrying", extra={"error": failures[0]})
                    for (cursor, check_reset), answer in zip(some, answers, strict=True):
                        if isinstance(answer, BaseException) and cursor in self._cursors.get(cursor.keys.member, ()):
                            self.catch_up(cursor, check_reset=check_reset)
                    await asyncio.sleep(PAUSE_S)

    async def _read(self, cursor: FeedCursor, *, check_reset: bool) -> None:
        if cursor.subscriber.is_full():
            return  # it catches up when it has room
        if check_reset and (end := await self._end(cursor)) < cursor.position:
            # Events come again from the start; of statuses the last one supersedes the others.
            is_status = cursor.kind == FeedKind.STATUS and end > START
            cursor.position = Position(end.offset - 1, 0) if is_status else START
            cursor.subscriber.on_reset()
        if cursor.position == SEALED:
            return  # nothing comes after the end, and Redis refuses a range that starts there
        # In this order: every event that the first answer counts as applied is in the second.
        applied, entries = await self._execute(
            ("GET", cursor.keys.projected("feeds")),
            ("XRANGE", cursor.stream, f"({cursor.position}", "+", "COUNT", FEED_PAGE),
        )
        for entry_id, fields in entries:
            if cursor.subscriber.is_full():
                return
            if (position := Position.parse(entry_id)) > cursor.position:
                cursor.deliver(position, fields[1].decode())
        if len(entries) == FEED_PAGE:
            self.catch_up(cursor)
        elif cursor.kind == FeedKind.EVENT and applied and (reached := Position.parse(applied)) > OPENED:
            # Past facts that make no event, or each message after them would look like a gap.
            cursor.position = max(cursor.position, reached)

    async def last_position(self, keys: RunKeys) -> Position:
        """Where the feed ends now, facts that make no event included.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        entries, applied = await self._execute(
            ("XREVRANGE", keys.feed, "+", "-", "COUNT", 1), ("GET", keys.projected("feeds"))
        )
        position = max(
            Position.parse(entries[0][0]) if entries else START, Position.parse(applied) if applied else START
        )
        return START if position == OPENED else position

    async def _end(self, cursor: FeedCursor) -> Position:
        if cursor.kind == FeedKind.EVENT:
            return await self.last_position(cursor.keys)
        [entries] = await self._execute(("XREVRANGE", cursor.stream, "+", "-", "COUNT", 1))
        return Position.parse(entries[0][0]) if entries else START

    async def _execute(self, *commands: tuple[Argument, ...]) -> list[Any]:
        answers = await self._server.execute_many(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _check_some(self) -> None:
        await self.check(max(1, round(len(self._cursors) * CHECK_EVERY_S / CHECK_S)))

    async def check(self, runs: int) -> None:
        """Check whether cursors of the next `runs` runs have missed anything; after the last run, begin again.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        self._unchecked = self._unchecked or list(self._cursors)
        members, self._unchecked = self._unchecked[:runs], self._unchecked[runs:]
        checked = [cursor.keys for member in members for cursor in self._cursors.get(member, ())[:1]]
        answers = await self._execute(*(
            command for keys in checked for command in (
                ("EXISTS", keys.transcript),
                ("XREVRANGE", keys.feed, "+", "-", "COUNT", 1),
                ("XREVRANGE", keys.status, "+", "-", "COUNT", 1),
            )
        ))  # fmt: skip
        for keys, exists, events, statuses in zip(checked, answers[::3], answers[1::3], answers[2::3], strict=True):
            for cursor in tuple(self._cursors.get(keys.member, ())):
                last = events if cursor.kind == FeedKind.EVENT else statuses
                if not exists:
                    cursor.subscriber.on_gone()
                elif last and Position.parse(last[0][0]) != cursor.position:
                    self.catch_up(cursor, check_reset=True)
