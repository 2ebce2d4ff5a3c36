"""How a session ends, as its connection learns from the log and the feed, and the wait for its transcript."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edge import errors
from edge.errors import ErrorCode
from edge.streams.fan_out import FanOut, FeedCursor
from edge.websocket import messages
from eventlog.log import LogUnavailableError

POLL_S = 1.0
"""While the end is awaited the feed is read this often, in case the message about it was lost."""


class SessionResult:
    """The end of one session, and its transcript.

    A quarantined session has no transcript for now: an end that comes meanwhile does not wait for one.
    """

    def __init__(self, fanout: FanOut, cursor: FeedCursor, read: Callable[[], Awaitable[str | None]]) -> None:
        """Follow the feed of `cursor`; `read` reads the transcript, None before it is stitched."""
        self._fanout = fanout
        self._cursor = cursor
        self._read = read
        self.sealed = asyncio.Event()
        """Set once the log has the end, or no end is awaited any more."""
        self.end_body: str | None = None
        """The feed's last event."""
        self._is_final = asyncio.Event()
        """The feed has ended, or brings nothing more for now."""
        self._is_stitched = asyncio.Event()
        self._is_quarantined = False

    def find_error(self, reason: str, *, max_session_s: float) -> tuple[ErrorCode, str] | None:
        """The error, and its message, of a session that ended for `reason`; None if that is no error."""
        if reason == "failed":
            detail = messages.read_end_detail(self.end_body)
            return (errors.QUARANTINED, detail) if self._is_quarantined else errors.read_failure(detail)
        if reason == "limit":
            return errors.SESSION_TOO_LONG, f"a session has at most {max_session_s:g} s of audio"
        return None

    def take_end(self, body: str) -> None:
        """The feed ended with `body`."""
        self.end_body = body
        self.sealed.set()
        self._is_final.set()

    def take_quarantine(self, *, is_quarantined: bool) -> None:
        """The session was quarantined, or redriven."""
        self._is_quarantined = is_quarantined
        if is_quarantined:
            self._is_final.set()
        else:
            self._is_final.clear()

    def take_document(self) -> None:
        """The transcript can be read."""
        self._is_stitched.set()

    async def wait_for_transcript(self, timeout_s: float) -> str | None:
        """Wait for the transcript; None if none comes within `timeout_s`, or for now."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self._wait(self._is_final):
                    pass
                while (transcript := await self._read()) is None:
                    if self._is_quarantined and not self.end_body:
                        break
                    await self._wait(self._is_stitched)
                    self._is_stitched.clear()
        except (TimeoutError, LogUnavailableError):
            return None
        return transcript

    async def _wait(self, event: asyncio.Event) -> bool:
        """Wait for `event`, at most until the feed is to be read again."""
        try:
            async with asyncio.timeout(POLL_S):
                await event.wait()
        except TimeoutError:
            self._fanout.catch_up(self._cursor)
        return event.is_set()
