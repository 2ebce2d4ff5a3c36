"""Pauses of clients without a connection: those that send by requests, and those whose connection broke."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import NamedTuple

from edge.session.append_source import AppendLog, AppendSource
from edge.session.pause_detector import STALL_S
from eventlog.codec import encode
from eventlog.events import Paused
from eventlog.keys import SessionKeys
from eventlog.log import Append, LogUnavailableError
from eventlog.positions import Position

logger = logging.getLogger(__name__)

MAX_APPENDS = 200
"""In one call: about a millisecond of Redis's time."""


class _Silence(NamedTuple):
    """A stream that may have gone silent."""

    epoch: int
    within_s: float
    head: Position
    """Where it ended when the last audio came."""
    heard_at: float
    due_at: float
    source: AppendSource | None = None
    """Its former connection's, until the rest of its audio is in the log."""


class PauseWatch:
    """States a pause for each stream that has not continued in time; whichever process saw its last audio watches it.

    The pause is appended only onto the very entry that was the last, and under its epoch. So a request at another
    replica, or a resumed connection, makes it void: no pause is stated late, and none twice.
    """

    def __init__(self, log: AppendLog, *, outage_timeout_s: float) -> None:
        """Append to `log`; a pause that it does not take for `outage_timeout_s` is given up."""
        self._log = log
        self._outage_timeout_s = outage_timeout_s
        self._silent: dict[SessionKeys, _Silence] = {}
        self._swept_at = time.monotonic()

    def __len__(self) -> int:
        """How many streams are watched."""
        return len(self._silent)

    def expect(self, stream: SessionKeys, epoch: int, head: Position, *, within_s: float) -> None:
        """State a pause in `within_s`, unless `stream` continues after `head` by then, or this is called again."""
        now = time.monotonic()
        self._silent[stream] = _Silence(epoch, within_s, head, now, now + within_s)

    def expect_behind(self, source: AppendSource, *, within_s: float) -> None:
        """As `expect`, behind what `source` has still to append; its connection is gone."""
        uplink, now = source.uplink, time.monotonic()
        self._silent[uplink.keys] = _Silence(uplink.epoch, within_s, uplink.head, now, now + within_s, source)

    def forget(self, stream: SessionKeys) -> None:
        """State no pause of `stream`; harmless if it is not watched."""
        self._silent.pop(stream, None)

    async def sweep(self) -> None:
        """State the pauses that are due."""
        now = time.monotonic()
        stalled_s, self._swept_at = now - self._swept_at, now
        if stalled_s > STALL_S:  # requests may wait in the sockets of a process that stood still
            self._postpone(self._silent, stalled_s)
        self._take_heads()
        due = [stream for stream, one in self._silent.items() if one.due_at <= now and one.source is None]
        due = due[:MAX_APPENDS]
        if not due:
            return
        silences = [self._silent[stream] for stream in due]
        appends = [
            Append(
                stream, one.epoch, one.head, one.head.control(),
                encode(Paused(silent_ms=round(1000 * (now - one.heard_at)))), is_audio=False,
            )
            for stream, one in zip(due, silences, strict=True)
        ]  # fmt: skip
        try:
            # Refused where the stream has more by now. Without an answer it is made again, and refused if it was done.
            await self._log.append(appends)
        except LogUnavailableError:
            # No client could continue or resume either: each gets its time again, until the outage has lasted too long.
            given_up = [
                stream for stream, one in zip(due, silences, strict=True)
                if now - one.heard_at > one.within_s + self._outage_timeout_s
            ]  # fmt: skip
            for stream in set(due) - set(given_up):
                self._postpone([stream], self._silent[stream].within_s)
            if given_up:
                logger.warning("pauses not stated: log unavailable", extra={"sessions": len(given_up)})
            due = given_up
        for stream, one in zip(due, [self._silent.get(stream) for stream in due], strict=True):
            if one in silences:
                del self._silent[stream]

    def _postpone(self, streams: Iterable[SessionKeys], by_s: float) -> None:
        for stream in list(streams):
            if one := self._silent.get(stream):
                self._silent[stream] = one._replace(due_at=one.due_at + by_s)

    def _take_heads(self) -> None:
        """Release the sources whose audio is all in the log, and forget the streams that refuse it."""
        for stream, one in [(stream, one) for stream, one in self._silent.items() if one.source is not None]:
            uplink = one.source.uplink if one.source else None
            if uplink is None or uplink.refusal is not None or time.monotonic() - one.due_at > self._outage_timeout_s:
                del self._silent[stream]
            elif uplink.unacked_bytes < uplink.frame_bytes:
                self._silent[stream] = one._replace(epoch=uplink.epoch, head=uplink.head, source=None)
