"""Appends decoded samples to the audio log: at the same positions after a takeover, guarded by epoch and head."""

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
from processor.decoding.child_protocol import SAMPLE_BYTES, Source

log = logging.getLogger(__name__)

RETRY_S = 0.2
"""Pause after the log was unreachable or full: short against a speaker's patience, long against a busy loop."""

Answer = TypeVar("Answer")


class LogMovedError(Exception):
    """The log's head is not the expected one: decode again from the start, which is harmless, or find the end sealed.

    Attributes:
        code: The log's answer.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


async def retry_until_answered(call: Callable[[], Awaitable[Answer]], on_log_error: Callable[[], None]) -> Answer:
    """Repeat `call` until the log answers; every call here may be repeated."""
    while True:
        try:
            return await call()
        except LogUnavailableError as error:
            log.info("decoding waits: log unavailable", extra={"error": error})
            on_log_error()
            await asyncio.sleep(RETRY_S)


class PcmAppender:
    """Appends one decoding's samples and events, except those that an earlier one of the same bytes has appended."""

    def __init__(
        self, log_: EventLog, uploads: Uploads, keys: SessionKeys, decoding: DecodingStart,
        on_log_error: Callable[[], None],
    ) -> None:
        """Continue at the head that `decoding` states."""
        assert decoding.start is not None  # noqa: S101 -- callers asked for code OK
        self._log = log_
        self._uploads = uploads
        self._keys = keys
        self._epoch = decoding.epoch
        self._head = decoding.head
        self._start: SessionStarted = decoding.start
        self._on_log_error = on_log_error
        self.position = OPENED
        """Where this decoding stands, perhaps behind the head."""
        self.channels = 0
        """Known once described."""

    @property
    def durable_samples(self) -> int:
        """Up to where the audio is in the log."""
        return self._head.offset

    def start_at(self, samples: int) -> None:
        """Continue from sample `samples`: this decoding began at a restart point."""
        self.position = Position(samples, 0)

    async def describe(self, source: Source) -> None:
        """Append the recording's description, once."""
        self.channels = source.channels
        self.position = OPENED.control()
        if self._head >= self.position:
            return
        event = SourceDescribed(
            sample_rate_hz=source.sample_rate_hz, channels=source.channels, container=source.container,
            codec=source.codec, duration_samples=source.duration_samples,
        )  # fmt: skip
        start = msgspec.structs.replace(self._start, channels=source.channels, sample_rate_hz=source.sample_rate_hz)
        answer = await retry_until_answered(
            lambda: self._uploads.describe(self._keys, self._epoch, start, event), self._on_log_error
        )
        if answer.code != Code.OK and not (answer.code == Code.MISPLACED and answer.head >= self.position):
            raise LogMovedError(answer.code)
        self._head = self.position

    async def append_audio(self, pcm: bytes) -> None:
        """Append whole samples."""
        frame_bytes = SAMPLE_BYTES * self.channels
        before, self.position = self.position, self.position.advanced(len(pcm) // frame_bytes)
        known = self._head.offset - before.offset
        if self.position.offset <= self._head.offset:
            return
        await self._append(self.position, pcm[known * frame_bytes :] if known > 0 else pcm, is_audio=True)

    async def append_event(self, event: AudioEvent) -> None:
        """Append a control event at this point."""
        self.position = self.position.control()
        if self.position > self._head:
            await self._append(self.position, encode(event), is_audio=False)

    async def seal(self, reason: str, detail: str = "") -> None:
        """End the audio."""
        event = SessionSealed(reason=reason, offset_samples=max(self.position, self._head).offset, detail=detail)
        await self._append(SEALED, encode(event), is_audio=False)

    async def _append(self, position: Position, payload: bytes, *, is_audio: bool) -> None:
        one = Append(self._keys, self._epoch, self._head, position, payload, is_audio)
        while True:
            [answer] = await retry_until_answered(lambda: self._log.append([one]), self._on_log_error)
            if answer.code != Code.UNKNOWN:
                break
            self._on_log_error()
            await asyncio.sleep(RETRY_S)
        # An earlier try may have been written although its answer was lost.
        if answer.code != Code.OK and not (answer.code == Code.MISPLACED and answer.head == position):
            raise LogMovedError(answer.code)
        self._head = position
