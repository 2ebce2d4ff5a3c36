"""The feed's backlog for a resumed client, sent as fast as it reads."""

from __future__ import annotations

import time

from edge.streams.fan_out import FanOut, FeedCursor
from edge.websocket.outbox import Outbox
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position

UNREAD_TIMEOUT_S = 10.0
"""A client that reads nothing of its backlog for so long is too slow."""


class CatchUp:
    """Holds the feed back while a backlog waits; new events are bounded by the outbox alone.

    Hours of finals are more than an outbox holds, and a client that has just resumed isn't slow for having missed them.
    """

    __slots__ = ("_cursor", "_end", "_fanout", "_full_since", "_max_waiting", "_outbox")

    def __init__(self, fanout: FanOut, cursor: FeedCursor, outbox: Outbox, *, bound: int) -> None:
        """Fill half of `outbox`, whose bound is `bound`."""
        self._fanout = fanout
        self._cursor = cursor
        self._outbox = outbox
        self._max_waiting = bound // 2
        self._end: Position | None = None
        """Where the backlog ends; None once it is sent."""
        self._full_since: float | None = None
        """Since when the client has to read before more is sent."""

    async def begin(self, next_utterance: int | None) -> None:
        """Begin with the final that the client asks for, or with the next that comes.

        To be called before its cursor is added: events delivered by then would come again from here.
        """
        try:
            last = await self._fanout.last_position(self._cursor.keys)
        except LogUnavailableError:
            last = START  # better twice than not at all
        self._end = last
        self._cursor.position = last if next_utterance is None else min(last, Position(next_utterance, 0))
        self._fanout.catch_up(self._cursor)

    def is_full(self) -> bool:
        """Whether the client has to read first; see `Subscriber`."""
        if self._end is None or self._outbox.waiting < self._max_waiting:
            return False
        if self._full_since is None:
            self._full_since = time.monotonic()
        return True

    def advance(self, now: float) -> bool:
        """Send more if the outbox has room, to be called now and then; False if the client doesn't read."""
        if self._end is None:
            return True
        waiting = self._outbox.waiting
        if self._full_since is None:
            if not waiting and self._cursor.position >= self._end:
                self._end = None
        elif waiting <= self._max_waiting // 2:
            self._full_since = None
            self._fanout.catch_up(self._cursor)
        else:
            return now - self._full_since <= UNREAD_TIMEOUT_S
        return True
