"""What a resumed client has missed, brought as fast as it reads."""

from __future__ import annotations

import time

from edge.streams.fan_out import FanOut, FeedCursor
from edge.websocket.outbox import Outbox
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position

DEAF_S = 10.0
"""A client that reads nothing of what it has missed for so long is too slow."""


class CatchUp:
    """Holds the feed back while a backlog waits; for what is new there is the outbox's bound alone.

    Hours of finals are more than an outbox holds, and a client that has just resumed isn't slow for having missed them.
    """

    __slots__ = ("_end", "_fanout", "_held_up_s", "_listener", "_most", "_outbox")

    def __init__(self, fanout: FanOut, listener: FeedCursor, outbox: Outbox, *, bound: int) -> None:
        """Fill half of `outbox`, whose bound is `bound`."""
        self._fanout = fanout
        self._listener = listener
        self._outbox = outbox
        self._most = bound // 2
        self._end: Position | None = None
        self._held_up_s: float | None = None
        """Since when the client has to read before there is more."""

    async def begin(self, next_utterance: int | None) -> None:
        """Begin with the final that the client asks for, or with what comes.

        To be called before its listener hears anything: what it heard by then would come again from here.
        """
        try:
            last = await self._fanout.last_position(self._listener.keys)
        except LogUnavailableError:
            last = START  # better twice than not at all
        self._end = last
        self._listener.position = last if next_utterance is None else min(last, Position(next_utterance, 0))
        self._fanout.catch_up(self._listener)

    def is_full(self) -> bool:
        """Whether the client has to read first; see `Subscriber`."""
        if self._end is None or self._outbox.waiting < self._most:
            return False
        if self._held_up_s is None:
            self._held_up_s = time.monotonic()
        return True

    def go_on(self, now: float) -> bool:
        """Bring more if there is room, to be called now and then; False if the client doesn't read."""
        if self._end is None:
            return True
        waiting = self._outbox.waiting
        if self._held_up_s is None:
            if not waiting and self._listener.position >= self._end:
                self._end = None
        elif waiting <= self._most // 2:
            self._held_up_s = None
            self._fanout.catch_up(self._listener)
        else:
            return now - self._held_up_s <= DEAF_S
        return True
