"""The end of a session's stream, where requests append: many of them, on any replica, none of which keeps any state."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from edge import errors
from edge.auth.access import unknown_session as _unknown
from edge.errors import ApiError
from edge.session.memory_watermarks import RETRY_AFTER_S, MemoryWatermarks
from edge.session.uplink import CHUNK_BYTES, INITIAL_CREDIT_BYTES, frame_bytes_of
from edge.session.upload_credit import POLL_S, ProgressTimeout, UploadCredit
from eventlog.codec import encode
from eventlog.events import CONTAINER, AudioEvent, ProvisionalAsked, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code, LogFullError, LogUnavailableError
from eventlog.positions import SEALED, Position
from eventlog.redis.redis_log import RedisLog

APPEND_BYTES = 1_048_576
"""In one call: some milliseconds of Redis's time."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5
"""After a failed call, doubling: a dropped connection is back at once, a failover takes seconds."""


class LogAppender:
    """Appends to a stream that others append to as well, so every call starts from where the log says that its end is.

    Nothing is appended twice: after a call whose fate is unknown, what stands where it would have put its entry is
    compared with it.
    """

    def __init__(
        self, log: RedisLog, stream: SessionKeys, start: SessionStarted, *, patience_s: float,
        ahead_bytes: int = sys.maxsize, on_wait: Callable[[], Awaitable[None]] | None = None,
        watermarks: MemoryWatermarks | None = None,
    ) -> None:  # fmt: skip
        """Append to `stream` of a session started by `start`; a log that is away or full is waited for that long.

        A container waits at `ahead_bytes`, or as far as its decoder says; `on_wait` is called now and then meanwhile,
        and may raise what ends the wait.
        """
        self._log = log
        self._stream = stream
        self._frame_bytes = frame_bytes_of(start)
        self._patience_s = patience_s
        self._epoch = 0
        self._head = Position(0, 0)
        self._waited_since = 0.0
        self._failures = 0
        self._is_unsure = False
        is_bounded = start.encoding == CONTAINER and ahead_bytes != sys.maxsize
        self._credit = UploadCredit(log.server, ahead_bytes) if is_bounded else None
        self._credit_bytes = INITIAL_CREDIT_BYTES if is_bounded else sys.maxsize
        self._on_wait = on_wait
        self._watermarks = watermarks

    @property
    def end_bytes(self) -> int:
        """Where the stream ends, as far as is known."""
        return self._head.offset * self._frame_bytes

    async def look(self) -> None:
        """Find out where the stream ends.

        Raises:
            ApiError: `session_ended`, `unknown_session`, or `log_unavailable` if the log stays away.
        """
        while True:
            try:
                there = await self._log.confirmed_whereabouts(self._stream)
            except LogUnavailableError as error:
                await self._pause(error)
                continue
            if there is None:
                raise _unknown()
            if there.head == SEALED:
                raise _ended()
            self._calm()
            self._epoch, self._head = there.epoch, there.head
            return

    async def append(self, data: bytes, at_bytes: int | None = None) -> int:
        """Append whole samples: at `at_bytes`, less what is there already, or at the end; returns where they end.

        Raises:
            ApiError: as `look`; `invalid_offset` if the stream ends before `at_bytes`.
        """
        end = self.end_bytes if at_bytes is None else at_bytes + len(data)
        while data:
            if at_bytes is not None:
                data = self._what_is_new(data, end - len(data))
            await self._wait_for_memory()
            room = await self._room(len(data))
            parts = _parts(data[:room], self._frame_bytes)
            taken = await self._append_some([(part, True) for part in parts])
            data = data[sum(map(len, parts[:taken])) :] if taken else data
            end = self.end_bytes if at_bytes is None and taken else end
        return end

    async def _wait_for_memory(self) -> None:
        if self._watermarks is None:
            return
        if not await self._watermarks.wait_for_memory(self._stream.partition, self._patience_s, self._on_wait):
            raise ApiError(
                errors.MEMORY_FULL, f"Redis is nearly full; durable up to offset {self.end_bytes}",
                retry_after_s=RETRY_AFTER_S,
            )  # fmt: skip

    async def _room(self, size: int) -> int:
        """How much of so many bytes may be appended now; waits until it is something.

        Raises:
            ApiError: `log_unavailable` if nobody lives who would take more, or what `on_wait` raises.
        """
        if self._credit is None or self.end_bytes + min(size, APPEND_BYTES) <= self._credit_bytes:
            return size
        still = ProgressTimeout()
        while True:
            with contextlib.suppress(LogUnavailableError):  # appends tell of a Redis that stays away
                [self._credit_bytes] = await self._credit.read([self._stream.session_id])
                if still.is_touch_due():
                    await self._log.touch([(self._stream, self._epoch)])
            if self._credit_bytes > self.end_bytes:
                return self._credit_bytes - self.end_bytes
            if self._on_wait is not None:
                await self._on_wait()
            if still.has_expired:
                if await self._credit.is_hopeless():
                    raise ApiError(
                        errors.LOG_UNAVAILABLE, f"no worker takes the recording now; durable up to offset {self.end_bytes}"
                    )
                still.restart()
            await asyncio.sleep(POLL_S)

    async def ask(self, request: str) -> None:
        """Append the question for all that can be said so far.

        Raises:
            ApiError: as `look`.
        """
        await self.tell(ProvisionalAsked(request=request))

    async def tell(self, event: AudioEvent) -> None:
        """Append a control event.

        Raises:
            ApiError: as `look`.
        """
        while not await self._append_some([(encode(event), False)]):
            pass

    async def seal(self, reason: str) -> bool:
        """End the stream; False if it had its end.

        Raises:
            ApiError: `unknown_session`, or `log_unavailable` if the log stays away.
        """
        while True:
            try:
                code = await self._log.seal(self._stream, reason)
            except LogUnavailableError as error:
                await self._pause(error)
                continue
            if code is Code.GONE:
                raise _unknown()
            return code is Code.OK

    def _what_is_new(self, data: bytes, at_bytes: int) -> bytes:
        there = self.end_bytes - at_bytes
        if there < 0:
            raise ApiError(
                errors.INVALID_OFFSET, f"the session's audio ends at {self.end_bytes}, and the chunk begins at {at_bytes}"
            )
        return data[there:]

    async def _append_some(self, payloads: Sequence[tuple[bytes, bool]]) -> int:
        """Try once; returns how many of the payloads, in order, are in the log now."""
        appends = self._placed(payloads)
        if not appends:
            return 0
        try:
            answers = await self._log.append(appends)
        except LogFullError as error:  # nothing was written
            await self._pause(error)
            return 0
        except LogUnavailableError as error:
            self._is_unsure = True
            await self._pause(error)
            return 0
        for number, (append, answer) in enumerate(zip(appends, answers, strict=True)):
            if answer.code is not Code.OK:
                return number + await self._refused(append, answer)
            self._head = append.position
            self._calm()
        return len(appends)

    def _placed(self, payloads: Sequence[tuple[bytes, bool]]) -> list[Append]:
        after, appends = self._head, []
        for payload, is_audio in payloads:
            position = after.advanced(len(payload) // self._frame_bytes) if is_audio else after.control()
            appends.append(Append(self._stream, self._epoch, after, position, payload, is_audio))
            after = position
        return appends

    async def _refused(self, append: Append, answer: Appended) -> int:
        """Learn from a refusal; 1 if the entry is in the log nevertheless."""
        if answer.code is Code.UNKNOWN:
            self._is_unsure = True
            await self._pause(LogUnavailableError("no answer"))
            return 0
        if answer.code is Code.GONE:
            raise _unknown()
        if answer.code is Code.SEALED:
            raise _ended()
        if self._is_unsure and await self._is_there(append):
            self._failures = 0
            self._head = append.position
            return 1  # those after it may be there too
        self._calm()
        went_back = answer.head < append.after
        self._epoch, self._head = answer.epoch, answer.head
        if went_back:  # a failover that lost what was not replicated; never stitched over
            raise ApiError(errors.LOG_UNAVAILABLE, f"Redis lost audio; send again what comes after offset {self.end_bytes}")
        return 0

    async def _is_there(self, append: Append) -> bool:
        """Whether the very entry stands where it was to be put; one of another request would differ."""
        while True:
            try:
                found = await self._log.read({self._stream: append.after}, max_bytes_each=CHUNK_BYTES)
            except LogUnavailableError as error:
                await self._pause(error)
                continue
            for entry in found.get(self._stream, [])[:1]:
                return entry.position == append.position and append.payload in {entry.pcm, entry.event}
            return False

    def _calm(self) -> None:
        self._is_unsure = False
        self._failures = 0

    async def _pause(self, error: LogUnavailableError) -> None:
        now = time.monotonic()
        if not self._failures:
            self._waited_since = now
        self._failures += 1
        if now - self._waited_since >= self._patience_s:
            state = "is full" if isinstance(error, LogFullError) else "can't be reached"
            raise ApiError(errors.LOG_UNAVAILABLE, f"Redis {state} now; durable up to offset {self.end_bytes}") from error
        await asyncio.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1)))


def _parts(data: bytes, frame_bytes: int) -> list[bytes]:
    """As much as one call takes, in entries."""
    # CHUNK_BYTES is a multiple of every frame's size (1, 2 and 4 bytes).
    whole = min(len(data) - len(data) % frame_bytes, APPEND_BYTES)
    return [data[first : min(first + CHUNK_BYTES, whole)] for first in range(0, whole, CHUNK_BYTES)]


def _ended() -> ApiError:
    return ApiError(errors.SESSION_ENDED, "the session has ended and takes no more audio")
