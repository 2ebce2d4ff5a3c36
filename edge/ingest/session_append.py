"""Requests that append one session's audio chunk by chunk; any replica takes any of them, and none keeps any state."""

from __future__ import annotations

import re
import time
import uuid

from starlette.requests import Request

from edge import errors
from edge.auth.access import Principal
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.ingest.flow_control import FlowControl
from edge.ingest.live_types import CurrentTranscript
from edge.ingest.log_appender import LogAppender, session_ended
from edge.ingest.one_shot import remaining_bytes
from edge.ingest.result_waiter import ResultWaiter
from edge.ingest.session_lease import SessionLease
from edge.ingest.upload_reader import UploadReader
from edge.session.pause_detector import expected_pause_s
from edge.session.reservations import Reservation
from edge.session.uplink import frame_bytes_of
from eventlog.events import CONTAINER, OptionsChanged, ProvisionalRequested, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.positions import SEALED

_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(?:\*|\d{1,15})")  # 15 digits: a petabyte


class SessionAppend:
    """A session that a request may append to."""

    def __init__(self, core: EdgeCore, keys: SessionKeys, start: SessionStarted, *, has_ended: bool) -> None:
        """Append to the session of `keys`, started by `start`.

        `has_ended`: its audio is sealed. The decoder may have sealed it before the upload itself is.
        """
        self.keys = keys
        self.start = start
        self.has_ended = has_ended
        self._core = core
        self._reservation = Reservation(keys.session_id, start.tenant_id)
        self._lease = SessionLease(core, self._reservation)
        is_container = start.encoding == CONTAINER
        stream = keys.upload if is_container else keys
        flow = FlowControl(
            core.log, stream, start, ahead_bytes=core.settings.max_upload_ahead_bytes,
            on_wait=self._lease.renew_if_due,
        )  # fmt: skip
        self._appender = LogAppender(
            core.log, stream, start, outage_timeout_s=core.settings.redis_outage_timeout_s,
            flow=flow if is_container else None, watermarks=core.watermarks, on_wait=self._lease.renew_if_due,
        )  # fmt: skip

    @property
    def end_bytes(self) -> int:
        """Where the session's audio ends, by the log's last answer."""
        return self._appender.end_bytes

    async def begin(self) -> None:
        """Renew the session's lease and read its end.

        Raises:
            ApiError: `session_ended` or `session_limit_exceeded`.
            LogUnavailableError: if Redis can't be reached.
        """
        if self.has_ended:
            raise session_ended()
        await self._appender.read_end()
        await self._lease.renew()

    async def append_chunk(self, reader: UploadReader, at_bytes: int | None) -> int:
        """Append a chunk; return where it ends, in bytes.

        Raises:
            ApiError: `invalid_request` if it cuts a sample, `session_too_long`, or as `LogAppender.append`.
        """
        frame_bytes = frame_bytes_of(self.start)
        if (at_bytes or 0) % frame_bytes or (reader.is_complete and len(reader.head) % frame_bytes):
            raise _cut_sample(frame_bytes)
        at, rest, end = at_bytes, b"", self.end_bytes if at_bytes is None else at_bytes
        began_s = time.monotonic()
        async for part in reader.stream():
            data = rest + part
            whole_bytes = len(data) - len(data) % frame_bytes
            rest = data[whole_bytes:]
            remaining = remaining_bytes(self._core, self.start, self._appender)
            end = await self._appender.append(data[: min(whole_bytes, remaining)], at)
            self._expect_pause(reader.size_bytes, began_s)
            at = None if at is None else at + whole_bytes
            if whole_bytes > remaining:
                await self.end("limit")
                max_s = self._core.settings.max_session_s
                raise ApiError(errors.SESSION_TOO_LONG, f"a session has at most {max_s:g} s of audio")
        if rest:
            raise _cut_sample(frame_bytes, f"; the audio before it is accepted, up to offset {end}")
        return end

    async def append_and_wait(self, reader: UploadReader, at_bytes: int | None) -> CurrentTranscript:
        """Append a chunk and wait for all text of the audio up to its end.

        Raises:
            ApiError: as `append_chunk` and `ResultWaiter.wait_for_answer`.
            LogUnavailableError: if Redis can't be reached.
        """
        with ResultWaiter(self._core, self.keys.run()) as waiter:
            await self.append_chunk(reader, at_bytes)
            request = uuid.uuid4().hex
            await self._appender.append_event(ProvisionalRequested(request=request))
            self._expect_pause(reader.size_bytes, time.monotonic())
            return await waiter.wait_for_answer(request, self._core.settings.result_timeout_s)

    async def change_options(self, changed: OptionsChanged) -> int:
        """Change options behind the audio so far; return where that ends, as positions count.

        Raises:
            ApiError: as `LogAppender.append_event`.
        """
        await self._appender.append_event(changed)
        return self._appender.head.offset

    async def end(self, reason: str) -> None:
        """Seal the session, and free its place; harmless if it is sealed.

        Raises:
            ApiError: as `LogAppender.seal`.
        """
        self._core.pauses.forget(self._appender.keys)
        if await self._appender.seal(reason):
            self._core.metrics.count_ended(reason)
        await self._core.release(self._reservation)


    def _expect_pause(self, size_bytes: int, began_s: float) -> None:
        """Expect the next audio, `size_bytes` having come since `began_s`: a pause is stated if it does not come."""
        pause_ms, appender, start = self._core.settings.pause_ms, self._appender, self.start
        if pause_ms:
            # A request that lasts as long as its audio is spoken; one with a whole chunk is followed by another.
            audio_s = size_bytes / frame_bytes_of(start) / start.sample_rate_hz - (time.monotonic() - began_s)
            within_s = expected_pause_s(pause_ms, None if start.encoding == CONTAINER else max(0.0, audio_s))
            self._core.pauses.expect(appender.keys, appender.epoch, appender.head, within_s=within_s)


async def find(core: EdgeCore, principal: Principal, session_id: str) -> SessionAppend:
    """Find the principal's session, ended or not.

    Raises:
        ApiError: `unknown_session` or `transport_mismatch`.
        LogUnavailableError: if Redis can't be reached.
    """
    found = await core.access.find_session(principal, session_id, owner_only=True)
    start = found.log_position.start
    if not start.shared:
        raise ApiError(errors.TRANSPORT_MISMATCH, "the session receives its audio by WebSocket")
    return SessionAppend(core, found.keys, start, has_ended=found.log_position.head == SEALED)


def chunk_offset(request: Request, reader: UploadReader) -> int | None:
    """Where the chunk begins in the session's bytes, by `Content-Range` or `offset`; None if neither is given.

    Raises:
        ApiError: `invalid_request` or `invalid_query`.
    """
    text = reader.options.get("offset")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 15):  # noqa: PLR2004 - as _RANGE
        raise ApiError(errors.INVALID_QUERY, "offset must be a whole number of bytes")
    header = request.headers.get("content-range")
    if header is None:
        return None if text is None else int(text)
    matched = _RANGE.fullmatch(header)
    if matched is None:
        raise ApiError(errors.INVALID_REQUEST, "Content-Range must read like: bytes 0-31999/*")
    first, last = int(matched[1]), int(matched[2])
    if reader.is_complete and last - first + 1 != len(reader.head):
        message = f"Content-Range announces {last - first + 1} bytes, and the chunk has another size"
        raise ApiError(errors.INVALID_REQUEST, message)
    if text is not None and int(text) != first:
        raise ApiError(errors.INVALID_REQUEST, "Content-Range and offset contradict each other")
    return first


def _cut_sample(frame_bytes: int, more: str = "") -> ApiError:
    return ApiError(
        errors.INVALID_REQUEST,
        f"a chunk of samples, and its offset, is a multiple of {frame_bytes} bytes: send the rest with the next chunk"
        + more,
    )
