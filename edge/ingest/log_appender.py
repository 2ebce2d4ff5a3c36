"""Appends of requests to a session's stream: many requests, on any replica, none of which keeps any state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from edge import errors
from edge.auth.access import unknown_session
from edge.errors import ApiError
from edge.ingest.flow_control import FlowControl
from edge.session.memory_watermarks import RETRY_AFTER_S, MemoryWatermarks
from edge.session.uplink import frame_bytes_of
from eventlog.appender import CHUNK_BYTES, Appender, Outcome
from eventlog.events import AudioEvent, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.log import Append, Appended, Code, LogFullError, LogUnavailableError
from eventlog.log_retry import LogRetry
from eventlog.positions import SEALED, START
from eventlog.redis.redis_log import RedisLog

APPEND_BYTES = 1_048_576
"""In one call: some milliseconds of Redis's time."""


class LogAppender(Appender):
    """Appends to a stream with several appenders; each call starts from the end that the log last reported.

    No entry is appended twice: after a call without an answer, the entry at its position is compared with its own.
    """

    is_shared = True

    def __init__(
        self, log: RedisLog, stream: SessionKeys, start: SessionStarted, *, outage_timeout_s: float,
        flow: FlowControl | None = None, watermarks: MemoryWatermarks | None = None,
        on_wait: Callable[[], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """Append to `stream` of a session started by `start`, as far as `flow` and `watermarks` allow.

        A log that is unreachable or full is retried for `outage_timeout_s`; `on_wait` is called periodically while
        memory is short, and may raise the error that ends the wait.
        """
        super().__init__(stream, 0, START, frame_bytes=frame_bytes_of(start))
        self._log = log
        self._outage_timeout_s = outage_timeout_s
        self._flow = flow
        self._watermarks = watermarks
        self._on_wait = on_wait
        self._retry = LogRetry(self._check_outage)
        self._is_unsure = False
        """A call had no answer: its entries may be in the log."""

    @property
    def end_bytes(self) -> int:
        """Where the stream ends, by the log's last answer."""
        return self.head.offset * self.frame_bytes

    async def read_end(self) -> None:
        """Read where the stream ends.

        Raises:
            ApiError: `session_ended`, `unknown_session`, or `log_unavailable` if the log stays unavailable.
        """
        found = await self._retry.call(lambda: self._log.read_durable_position(self.keys))
        if found is None:
            raise unknown_session()
        if found.head == SEALED:
            raise session_ended()
        self._is_unsure = False
        self.epoch, self.head = found.epoch, found.head

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
                allowed = await self._flow.allowed_bytes(self.end_bytes, allowed, self.epoch)
            appends = self.place_audio(data[:allowed], self.head)
            appended = await self._try_append(appends)
            data = data[sum(len(one.payload) for one in appends[:appended]) :]
            end = self.end_bytes if at_bytes is None and appended else end
        return end

    async def append_event(self, event: AudioEvent) -> None:
        """Append a control event.

        Raises:
            ApiError: as `read_end`.
        """
        while not await self._try_append([self.place_event(event, self.head)]):
            pass

    async def seal(self, reason: str) -> bool:
        """End the stream; False if it was sealed already.

        Raises:
            ApiError: `unknown_session`, or `log_unavailable` if the log stays unavailable.
        """
        code = await self._retry.call(lambda: self._log.seal(self.keys, reason))
        if code is Code.GONE:
            raise unknown_session()
        return code is Code.OK

    async def _wait_for_memory(self) -> None:
        if self._watermarks is None:
            return
        if not await self._watermarks.wait_for_memory(self.keys.partition, self._outage_timeout_s, self._on_wait):
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

    async def _try_append(self, appends: Sequence[Append]) -> int:
        """Try once; return how many of the entries, in order, are in the log now."""
        try:
            answers = await self._log.append(appends)
        except LogUnavailableError as error:
            self._is_unsure = self._is_unsure or not isinstance(error, LogFullError)  # a full log wrote nothing
            await self._retry.back_off(error)
            return 0
        for number, (append, answer) in enumerate(zip(appends, answers, strict=True)):
            outcome = self.judge(answer, append.position)
            if outcome is Outcome.UNKNOWN:
                self._is_unsure = True
                await self._retry.back_off(LogUnavailableError("no answer"))
                return number
            if outcome is Outcome.REFUSED:
                raise _refusal(answer.code)
            if outcome is Outcome.MOVED:
                if not (self._is_unsure and await self._is_appended(append)):
                    self._continue_from(answer)
                    return number
                self.head = append.position
                return number + 1  # those after it may be in the log too: still unsure
            self.head = append.position
            self._is_unsure = False
            self._retry.reset()
        return len(appends)

    def _continue_from(self, moved: Appended) -> None:
        """Take over the end that the log reports."""
        self._is_unsure = False
        self._retry.reset()
        has_regressed = moved.head < self.head
        self.epoch, self.head = moved.epoch, moved.head
        if has_regressed:  # a failover lost entries that were not replicated; audio is never joined over a loss
            message = f"Redis lost audio; send the audio after offset {self.end_bytes} again"
            raise ApiError(errors.LOG_UNAVAILABLE, message)

    async def _is_appended(self, append: Append) -> bool:
        """Whether the very entry is at its position; another request's would differ."""
        found = await self._retry.call(
            lambda: self._log.read({self.keys: append.after}, max_bytes_each=CHUNK_BYTES)
        )
        for entry in found.get(self.keys, [])[:1]:
            return entry.position == append.position and append.payload in {entry.pcm, entry.event}
        return False

    def _check_outage(self, error: LogUnavailableError, failing_s: float) -> None:
        if failing_s >= self._outage_timeout_s:
            state = "is full" if isinstance(error, LogFullError) else "cannot be reached"
            message = f"Redis {state} now; durable up to offset {self.end_bytes}"
            raise ApiError(errors.LOG_UNAVAILABLE, message) from error


def _refusal(code: Code) -> ApiError:
    if code is Code.GONE:
        return unknown_session()
    if code is Code.SEALED:
        return session_ended()
    return ApiError(errors.INTERNAL_ERROR, f"the log answered {code.name}")


def session_ended() -> ApiError:
    """The error for audio that comes after a session's end."""
    return ApiError(errors.SESSION_ENDED, "the session has ended and accepts no more audio")
