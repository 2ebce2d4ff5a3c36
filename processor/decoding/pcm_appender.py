"""Appends decoded samples to the audio log: at the same positions after a takeover, guarded by epoch and head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from eventlog.appender import Appender, Outcome
from eventlog.events import AudioEvent, SessionStarted, SourceDescribed
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code, EventLog, LogUnavailableError
from eventlog.log_retry import LogRetry
from eventlog.positions import OPENED, Position
from eventlog.work.uploads import DecodingStart, Uploads
from processor.decoding.child_protocol import SAMPLE_BYTES, Source


class LogMovedError(Exception):
    """The log's head is not the expected one: decode again from the start, which is harmless, or find the end sealed.

    Attributes:
        code: The log's answer.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class PcmAppender(Appender):
    """Appends one decoding's samples and events, except those that an earlier one of the same bytes has appended."""

    def __init__(
        self, log: EventLog, uploads: Uploads, keys: SessionKeys, decoding: DecodingStart, retry: LogRetry
    ) -> None:
        """Continue at the head that `decoding` states."""
        assert decoding.start is not None  # noqa: S101 -- callers asked for code OK
        super().__init__(keys, decoding.epoch, decoding.head, frame_bytes=SAMPLE_BYTES)
        self._log = log
        self._uploads = uploads
        self._start: SessionStarted = decoding.start
        self._retry = retry
        self.position = OPENED
        """Where this decoding stands, perhaps behind the head."""
        self.is_described = False
        """Whether `frame_bytes` is the recording's own."""

    @property
    def durable_samples(self) -> int:
        """Up to where the audio is in the log."""
        return self.head.offset

    def start_at(self, samples: int) -> None:
        """Continue from sample `samples`: this decoding began at a restart point."""
        self.position = Position(samples, 0)

    async def describe(self, source: Source) -> None:
        """Append the recording's description, once."""
        self.frame_bytes, self.is_described = SAMPLE_BYTES * source.channels, True
        self.position = OPENED.control()
        if self.head >= self.position:
            return
        event = SourceDescribed(
            sample_rate_hz=source.sample_rate_hz, channels=source.channels, container=source.container,
            codec=source.codec, duration_samples=source.duration_samples,
        )  # fmt: skip
        start = msgspec.structs.replace(self._start, channels=source.channels, sample_rate_hz=source.sample_rate_hz)
        answer = await self._retry.call(lambda: self._uploads.describe(self.keys, self.epoch, start, event))
        self._take(answer, self.position)

    async def append_audio(self, pcm: bytes) -> None:
        """Append whole samples."""
        at, self.position = self.position, self.position.advanced(len(pcm) // self.frame_bytes)
        known_bytes = max(0, self.head.offset - at.offset) * self.frame_bytes
        await self._append(self.place_audio(pcm[known_bytes:], self.head, max(at, self.head)))

    async def append_event(self, event: AudioEvent) -> None:
        """Append a control event at this point."""
        append = self.place_event(event, self.head, self.position)
        self.position = append.position
        if self.position > self.head:
            await self._append([append])

    async def seal(self, reason: str, detail: str = "") -> None:
        """End the audio."""
        await self._append([self.place_seal(reason, self.head, max(self.position, self.head), detail)])

    async def _append(self, appends: Sequence[Append]) -> None:
        for append in appends:
            self._take(await self._retry.call(partial(self._append_once, append)), append.position)

    async def _append_once(self, append: Append) -> Appended:
        [answer] = await self._log.append([append])
        if answer.code is Code.UNKNOWN:
            raise LogUnavailableError("no answer")
        return answer

    def _take(self, answer: Appended, position: Position) -> None:
        if self.judge(answer, position) is not Outcome.DONE:
            raise LogMovedError(answer.code)
        self.head = position
