"""The decoder's way into the audio log: positions that are drawn again after a takeover, guarded by epoch and head."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from eventlog.codec import encode
from eventlog.events import AudioEvent, SessionSealed, SessionStarted, SourceDescribed
from eventlog.keys import SessionKeys
from eventlog.log import Append, Code, EventLog, LogUnavailableError
from eventlog.positions import OPENED, SEALED, Position
from eventlog.work.uploads import DecodingStart, Uploads
from processor.decoding.messages import SAMPLE_BYTES, Source

log = logging.getLogger(__name__)

RETRY_S = 0.2
"""Pause after the log was unreachable or full: short against a speaker's patience, long against a busy loop."""

Answer = TypeVar("Answer")


class AgainError(Exception):
    """The log isn't where it was believed to be: begin anew, which repeats harmlessly, or learn that it is over.

    Attributes:
        code: What the log said.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


async def insisted(call: Callable[[], Awaitable[Answer]], on_trouble: Callable[[], None]) -> Answer:
    """The answer of `call`, asked until there is one; every call here may be made again."""
    while True:
        try:
            return await call()
        except LogUnavailableError as error:
            log.info("decoding waits for the log", extra={"error": error})
            on_trouble()
            await asyncio.sleep(RETRY_S)


class PcmAppender:
    """Appends one decoding's samples and events, and skips what an earlier one of the same bytes has appended."""

    def __init__(
        self, log_: EventLog, uploads: Uploads, keys: SessionKeys, begun: DecodingStart, on_trouble: Callable[[], None]
    ) -> None:
        """Go on at the head that `begun` says."""
        assert begun.start is not None  # noqa: S101 -- callers asked for code OK
        self._log = log_
        self._uploads = uploads
        self._keys = keys
        self._epoch = begun.epoch
        self._head = begun.head
        self._start: SessionStarted = begun.start
        self._on_trouble = on_trouble
        self.at = OPENED
        """Up to where this decoding has come, though it be behind the head."""
        self.channels = 0
        """Known once described."""

    @property
    def durable_samples(self) -> int:
        """Up to where the audio is in the log."""
        return self._head.offset

    def go_on_at(self, samples: int) -> None:
        """Take what comes for what stands there: this decoding didn't begin at the first sample."""
        self.at = Position(samples, 0)

    async def describe(self, source: Source) -> None:
        """State what the container holds, once."""
        self.channels = source.channels
        self.at = OPENED.control()
        if self._head >= self.at:
            return
        event = SourceDescribed(
            sample_rate_hz=source.sample_rate_hz, channels=source.channels, container=source.container,
            codec=source.codec, duration_samples=source.duration_samples,
        )  # fmt: skip
        start = msgspec.structs.replace(self._start, channels=source.channels, sample_rate_hz=source.sample_rate_hz)
        answer = await insisted(
            lambda: self._uploads.describe(self._keys, self._epoch, start, event), self._on_trouble
        )
        if answer.code != Code.OK and not (answer.code == Code.MISPLACED and answer.head >= self.at):
            raise AgainError(answer.code)
        self._head = self.at

    async def audio(self, pcm: bytes) -> None:
        """Append whole samples."""
        frame_bytes = SAMPLE_BYTES * self.channels
        before, self.at = self.at, self.at.advanced(len(pcm) // frame_bytes)
        known = self._head.offset - before.offset
        if self.at.offset <= self._head.offset:
            return
        await self._append(self.at, pcm[known * frame_bytes :] if known > 0 else pcm, is_audio=True)

    async def event(self, event: AudioEvent) -> None:
        """Append a control event at this point."""
        self.at = self.at.control()
        if self.at > self._head:
            await self._append(self.at, encode(event), is_audio=False)

    async def seal(self, reason: str, detail: str = "") -> None:
        """End the audio."""
        event = SessionSealed(reason=reason, offset_samples=max(self.at, self._head).offset, detail=detail)
        await self._append(SEALED, encode(event), is_audio=False)

    async def _append(self, position: Position, payload: bytes, *, is_audio: bool) -> None:
        one = Append(self._keys, self._epoch, self._head, position, payload, is_audio)
        while True:
            [answer] = await insisted(lambda: self._log.append([one]), self._on_trouble)
            if answer.code != Code.UNKNOWN:
                break
            self._on_trouble()
            await asyncio.sleep(RETRY_S)
        # An earlier try may have been written although its answer was lost.
        if answer.code != Code.OK and not (answer.code == Code.MISPLACED and answer.head == position):
            raise AgainError(answer.code)
        self._head = position
