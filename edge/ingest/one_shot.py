"""One request, one recording, one session: opened, filled, sealed, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from edge import errors
from edge.auth.access import Principal
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.ingest.flow_control import FlowControl
from edge.ingest.formats import session_options
from edge.ingest.log_appender import LogAppender
from edge.ingest.result_waiter import ResultWaiter
from edge.ingest.session_lease import SessionLease
from edge.ingest.upload_reader import UploadReader
from edge.session import parameters
from edge.session.opener import Session
from edge.session.uplink import frame_bytes_of
from eventlog.events import CONTAINER, Batch, SessionStarted, SourceDescribed
from eventlog.log import LogUnavailableError
from eventlog.readmodel.documents import Document
from eventlog.work.erasure import erase

logger = logging.getLogger(__name__)


class Transcribed(NamedTuple):
    """The session of a recording, and its document if it exists already."""

    session_id: str
    document: Document | None


class Uploaded(NamedTuple):
    """A recording that is durable, all of it."""

    session: Session
    waiter: ResultWaiter


async def transcribe(core: EdgeCore, reader: UploadReader, principal: Principal) -> Transcribed:
    """Put a recording into a session of its own and wait for its transcript.

    Raises:
        ApiError: as `upload` and `wait_for_document`; no session remains, unless its recording cannot be decoded.
    """
    async with upload(core, reader, principal) as (session, waiter):
        document = await wait_for_document(reader, waiter, core.settings.result_timeout_s)
        return Transcribed(session.start.session_id, document)


@contextlib.asynccontextmanager
async def upload(
    core: EdgeCore, reader: UploadReader, principal: Principal, batch: Batch | None = None
) -> AsyncIterator[Uploaded]:
    """Put a recording into a session of its own, whose lease is held until the end of the block.

    Raises:
        ApiError: if the recording cannot be accepted; no session remains.
    """
    if core.is_draining:
        raise _going_away()
    options = session_options(reader.options, reader.content_type, reader.head)
    if reader.is_complete and not reader.head:
        raise ApiError(errors.INVALID_AUDIO, "the recording is empty")
    # Not shared: no other client learns its id before all of it is durable.
    wanted = parameters.parse_options(options)._replace(batch=batch, recorded=True)
    session = await core.opener.open(wanted, principal)
    lease = SessionLease(core, session.reservation)
    async with lease.hold():
        with ResultWaiter(core, session.keys.run()) as waiter:
            try:
                await _append_recording(core, session, reader, lease, waiter)
            except BaseException:
                await _erase(core, session)
                raise
            yield Uploaded(session, waiter)


async def wait_for_document(reader: UploadReader, waiter: ResultWaiter, timeout_s: float) -> Document | None:
    """Return the transcript; None if it does not exist in time, or the client has disconnected.

    Raises:
        ApiError: as `ResultWaiter.wait_for_document`.
    """
    waiting = asyncio.create_task(waiter.wait_for_document(timeout_s), name="transcript")
    tasks: list[asyncio.Task[Any]] = [waiting]
    if reader.is_complete:
        tasks.append(asyncio.create_task(reader.wait_for_disconnect(), name="client"))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _erase(core: EdgeCore, session: Session) -> None:
    """Erase a session whose id its client never learned; if Redis is unreachable, it ends as an idle one."""
    try:
        await erase(core.server, session.keys, session.start.tenant_id)
        core.metrics.count_ended("deleted")
    except LogUnavailableError:
        logger.info("session not erased; it will end as idle", extra={"session_id": session.keys.session_id})


async def _append_recording(
    core: EdgeCore, session: Session, reader: UploadReader, lease: SessionLease, waiter: ResultWaiter
) -> None:
    async def check() -> None:
        lease.require_held()
        if core.is_draining:
            raise _going_away()

    start, settings = session.start, core.settings
    appender = LogAppender(
        core.log, session.stream, start, outage_timeout_s=settings.redis_outage_timeout_s, on_wait=check,
        flow=FlowControl(
            core.log, session.stream, start, ahead_bytes=settings.max_upload_ahead_bytes, on_wait=check,
            is_over=lambda: waiter.has_ended,
        ),
        watermarks=core.watermarks,
    )  # fmt: skip
    frame_bytes = frame_bytes_of(start)
    reason, rest = "stop", b""
    try:
        await appender.read_end()
        if (source := _source(start, reader)) is not None:
            await appender.append_event(source)
        async for part in reader.stream():
            data = rest + part
            rest = data[len(data) - len(data) % frame_bytes :]
            frames = data[: len(data) - len(rest)]
            remaining = remaining_bytes(core, start, appender)
            await appender.append(frames[:remaining])
            if len(frames) > remaining:
                reason = "limit"
                break
            if waiter.has_ended:  # the decoder has already found that it is not a recording
                break
            await check()
        await appender.seal(reason)
        core.metrics.count_ended(reason)
    except ApiError as error:
        if error.error is not errors.SESSION_ENDED:
            raise  # else another party ended it, or it cannot be decoded: the waiter learns which


def _source(start: SessionStarted, reader: UploadReader) -> SourceDescribed | None:
    """Describe how long samples will be, since nothing in them says it; the decoder describes a container."""
    if start.encoding == CONTAINER or reader.expected_bytes is None:
        return None
    return SourceDescribed(
        sample_rate_hz=start.sample_rate_hz, channels=start.channels, container="raw", codec="pcm_s16le",
        duration_samples=reader.expected_bytes // frame_bytes_of(start),
    )  # fmt: skip


def remaining_bytes(core: EdgeCore, start: SessionStarted, appender: LogAppender) -> int:
    """How much more audio a session may have; the decoder of a container checks that, not the edge."""
    if start.encoding == CONTAINER:
        return sys.maxsize
    max_bytes = int(core.settings.max_session_s * start.sample_rate_hz) * frame_bytes_of(start)
    return max(0, max_bytes - appender.end_bytes)


def _going_away() -> ApiError:
    return ApiError(errors.GOING_AWAY, "this replica is shutting down; send the recording to another one")
