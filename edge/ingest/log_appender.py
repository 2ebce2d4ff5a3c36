"""Appends of requests to a session's stream: many requests, on any replica, none of which keeps any state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from edge import errors
from edge.auth.access import unknown_session
from edge.errors import ApiError
from edge.ingest.flow_control import FlowControl
from edge.session.memory_watermarks import RETRY_AFTER_S, MemoryWatermarks
from edge.session.uplink import CHUNK_BYTES, frame_bytes_of
from eventlog.codec import encode
from eventlog.events import AudioEvent, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code, LogFullError, LogUnavailableError
from eventlog.positions import SEALED, Position
from eventlog.redis.redis_log import RedisLog

T = TypeVar("T")

APPEND_BYTES = 1_048_576
"""In one call: some milliseconds of Redis's time."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5
"""After a failed call, doubling: a dropped connection is back at once, a failover takes seconds."""


class LogAppender:
    """Appends to a stream with several appenders; each call starts from the end that the log last reported.

    No entry is appended twice: after a call without an answer, the entry at its position is compared with its own.
    """

    def __init__(
        self, log: RedisLog, stream: SessionKeys, start: SessionStarted, *, outage_timeout_s: float,
        flow: FlowControl | None = None, watermarks: MemoryWatermarks | None = None,
        on_wait: Callable[[], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """Append to `stream` of a session started by `start`, as far as `flow` and `watermarks` allow.

        A log that is unreachable or full is retried for `outage_timeout_s`; `on_wait` is called periodically while
        memory is short, and may raise the error that ends the wait.
        """
        self._log = log
        self._stream = stream
        self._frame_bytes = frame_bytes_of(start)
        self._outage_timeout_s = outage_timeout_s
        self._flow = flow
        self._watermarks = watermarks
        self._on_wait = on_wait
        self._epoch = 0
        self._head = Position(0, 0)
        self._failing_since = 0.0
        self._failures = 0
        self._is_unsure = False
        """A call had no answer: its entries may be in the log."""

    @property
    def end_bytes(self) -> int:
        """Where the stream ends, by the log's last answer."""
        return self._head.offset * self._frame_bytes

    async def read_end(self) -> None:
        """Read where the stream ends.

        Raises:
            ApiError: `session_ended`, `unknown_session`, or `log_unavailable` if the log stays unavailable.
        """
        found = await self._retry(lambda: self._log.read_durable_position(self._stream))
        if found is None:
            raise unknown_session()
        if found.head == SEALED:
            raise session_ended()
        self._reset_failures()
        self._epoch, self._head = found.epoch, found.head

    async def append(self, data: bytes, at_bytes: int | None = None) -> int:
        """Append whole samples: at `at_bytes`, without those that the log has, or at the end; return where they end.

        Raises:
            ApiError: as `read_end`; `invalid_offset` if the stream ends before `at_bytes`.
        """
        end = self.end_bytes if at_bytes is None else at_bytes + len(data)
        while data:
            if at_bytes is not None:
                data = self._without_known(data, end - len(data))
            await self._wait_for_memory()
            allowed = min(len(data), APPEND_BYTES)
            if self._flow is not None:
                allowed = await self._flow.allowed_bytes(self.end_bytes, allowed, self._epoch)
            parts = _parts(data[:allowed], self._frame_bytes)
            appended = await self._try_append([(part, True) for part in parts])
            data = data[sum(map(len, parts[:appended])) :]
            end = self.end_bytes if at_bytes is None and appended else end
        return end

    async def append_event(self, event: AudioEvent) -> None:
        """Append a control event.

        Raises:
            ApiError: as `read_end`.
        """
        while not await self._try_append([(encode(event), False)]):
            pass

    async def seal(self, reason: str) -> bool:
        """End the stream; False if it was sealed already.

        Raises:
            ApiError: `unknown_session`, or `log_unavailable` if the log stays unavailable.
        """
        code = await self._retry(lambda: self._log.seal(self._stream, reason))
        if code is Code.GONE:
            raise unknown_session()
        return code is Code.OK

    async def _wait_for_memory(self) -> None:
        if self._watermarks is None:
            return
        if not await self._watermarks.wait_for_memory(self._stream.partition, self._outage_timeout_s, self._on_wait):
            raise ApiError(
                errors.MEMORY_FULL, f"Redis is nearly full; durable up to offset {self.end_bytes}",
                retry_after_s=RETRY_AFTER_S,
            )  # fmt: skip

    def _without_known(self, data: bytes, at_bytes: int) -> bytes:
        known_bytes = self.end_bytes - at_bytes
        if known_bytes < 0:
            message = f"the session's audio ends at {self.end_bytes}, and the chunk begins at {at_bytes}"
            raise ApiError(errors.INVALID_OFFSET, message)
        return data[known_bytes:]

    async def _try_append(self, payloads: Sequence[tuple[bytes, bool]]) -> int:
        """Try once; return how many of the payloads, in order, are in the log now."""
        appends = self._place(payloads)
        if not appends:
            return 0
        try:
            answers = await self._log.append(appends)
        except LogUnavailableError as error:
            self._is_unsure = self._is_unsure or not isinstance(error, LogFullError)  # a full log wrote nothing
            await self._back_off(error)
            return 0
        for number, (append, answer) in enumerate(zip(appends, answers, strict=True)):
            if answer.code is not Code.OK:
                return number + await self._handle_refusal(append, answer)
            self._head = append.position
            self._reset_failures()
        return len(appends)

    def _place(self, payloads: Sequence[tuple[bytes, bool]]) -> list[Append]:
        after, appends = self._head, []
        for payload, is_audio in payloads:
            position = after.advanced(len(payload) // self._frame_bytes) if is_audio else after.control()
            appends.append(Append(self._stream, self._epoch, after, position, payload, is_audio))
            after = position
        return appends

    async def _handle_refusal(self, append: Append, answer: Appended) -> int:
        """Take over the end that a refusal reports; 1 if the entry is in the log nevertheless."""
        if answer.code is Code.UNKNOWN:
            self._is_unsure = True
            await self._back_off(LogUnavailableError("no answer"))
            return 0
        if answer.code is Code.GONE:
            raise unknown_session()
        if answer.code is Code.SEALED:
            raise session_ended()
        if self._is_unsure and await self._is_appended(append):
            self._failures = 0
            self._head = append.position
            return 1  # those after it may be in the log too
        self._reset_failures()
        has_regressed = answer.head < append.after
        self._epoch, self._head = answer.epoch, answer.head
        if has_regressed:  # a failover lost entries that were not replicated; audio is never joined over a loss
            raise ApiError(
                errors.LOG_UNAVAILABLE, f"Redis lost audio; send the audio after offset {self.end_bytes} again"
            )
        return 0

    async def _is_appended(self, append: Append) -> bool:
        """Whether the very entry is at its position; another request's would differ."""
        found = await self._retry(
            lambda: self._log.read({self._stream: append.after}, max_bytes_each=CHUNK_BYTES)
        )
        for entry in found.get(self._stream, [])[:1]:
            return entry.position == append.position and append.payload in {entry.pcm, entry.event}
        return False

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except LogUnavailableError as error:
                await self._back_off(error)

    def _reset_failures(self) -> None:
        self._is_unsure = False
        self._failures = 0

    async def _back_off(self, error: LogUnavailableError) -> None:
        now = time.monotonic()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if now - self._failing_since >= self._outage_timeout_s:
            state = "is full" if isinstance(error, LogFullError) else "cannot be reached"
            message = f"Redis {state} now; durable up to offset {self.end_bytes}"
            raise ApiError(errors.LOG_UNAVAILABLE, message) from error
        await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1)))


def _parts(data: bytes, frame_bytes: int) -> list[bytes]:
    """Cut whole frames into entries."""
    # CHUNK_BYTES is a multiple of every frame's size (1, 2 and 4 bytes).
    whole_bytes = len(data) - len(data) % frame_bytes
    return [data[first : min(first + CHUNK_BYTES, whole_bytes)] for first in range(0, whole_bytes, CHUNK_BYTES)]


def session_ended() -> ApiError:
    """The error for audio that comes after a session's end."""
    return ApiError(errors.SESSION_ENDED, "the session has ended and accepts no more audio")
