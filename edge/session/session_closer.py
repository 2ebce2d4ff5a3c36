"""Ends sessions whose clients closed their connection in order and did not come back."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.session.append_source import AppendSource
from edge.session.reservations import Reservation
from edge.session.uplink import Uplink
from eventlog.keys import SessionKeys
from eventlog.log import Code
from eventlog.redis.redis_log import CLOSED

logger = logging.getLogger(__name__)

AFTER_DEADLINE_S = 0.05
"""Clocks are read in whole milliseconds, and a session that is sealed too early is not sealed."""


class ClosingLog(Protocol):
    """The log as far as it ends sessions."""

    async def begin_close(self, sessions: Sequence[tuple[SessionKeys, int]], *, grace_ms: int) -> list[Code]:
        """Have sessions, each under its epoch, end in `grace_ms` unless they are resumed."""
        ...

    async def seal_closed(self, streams: Sequence[SessionKeys]) -> list[Code]:
        """End those whose grace is over."""
        ...


@dataclass(slots=True, eq=False)
class _Closing:
    """A session on its way to its end."""

    stream: SessionKeys
    reservation: Reservation
    closed_at: float
    source: AppendSource | None
    """Of its connection, until the rest of its audio is in the log, and the deadline too."""
    due_at: float = 0.0


class SessionCloser:
    """Gives the log each session's deadline once the rest of its audio is there, and ends it when that has passed.

    The deadline stands in the log, so it is met without this process too: any worker's janitor then ends the session.
    """

    def __init__(
        self, log: ClosingLog, release: Callable[[Reservation], Awaitable[None]], *, grace_s: float,
        outage_timeout_s: float, on_end: Callable[[str], None],
    ) -> None:  # fmt: skip
        """End sessions in `log` after `grace_s`, `release` their reservations, and report each reason to `on_end`.

        A session whose rest the log does not take for `outage_timeout_s` is left to end as an idle one.
        """
        self._log = log
        self._release = release
        self._grace_s = grace_s
        self._outage_timeout_s = outage_timeout_s
        self._on_end = on_end
        self._closing: list[_Closing] = []

    def __len__(self) -> int:
        """How many sessions are in their grace."""
        return len(self._closing)

    def add(self, source: AppendSource, reservation: Reservation) -> None:
        """End the session of `source` after the grace, unless it is resumed."""
        self._closing.append(_Closing(source.uplink.keys, reservation, time.monotonic(), source))

    async def sweep(self) -> None:
        """Give the log the deadlines that it lacks, and end the sessions whose deadline has passed.

        Raises:
            LogUnavailableError: if Redis can't be reached; nothing is lost, the next sweep does the rest.
        """
        now = time.monotonic()
        ready: list[tuple[_Closing, Uplink]] = []
        for one, uplink in [(one, one.source.uplink) for one in self._closing if one.source is not None]:
            if uplink.refusal is not None or now - one.closed_at > self._outage_timeout_s + self._grace_s:
                self._closing.remove(one)
            elif uplink.unacked_bytes < uplink.frame_bytes:
                ready.append((one, uplink))
        if ready:
            await self._begin(ready)
        due = [one for one in self._closing if one.source is None and one.due_at + AFTER_DEADLINE_S <= now]
        if due:
            await self._end(due)

    async def _begin(self, ready: Sequence[tuple[_Closing, Uplink]]) -> None:
        sessions = [(uplink.keys, uplink.epoch) for _, uplink in ready]
        codes = await self._log.begin_close(sessions, grace_ms=round(1000 * self._grace_s))
        for (one, _), code in zip(ready, codes, strict=True):
            if code is Code.OK:
                one.source, one.due_at = None, time.monotonic() + self._grace_s
            elif code is not Code.UNKNOWN:  # resumed, ended or erased meanwhile
                self._closing.remove(one)

    async def _end(self, due: Sequence[_Closing]) -> None:
        codes = await self._log.seal_closed([one.stream for one in due])
        for one, code in zip(due, codes, strict=True):
            if code is Code.UNKNOWN:
                continue
            self._closing.remove(one)
            if code is Code.OK:
                self._on_end(CLOSED)
                logger.info("closed session ended", extra={"session_id": one.reservation.session_id})
                await self._release(one.reservation)
