"""One request, one recording, one session: opened, filled, sealed, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from edge import errors
from edge.auth.access import Principal
from edge.errors import ApiError
from edge.ingest import formats
from edge.ingest.backlog_limit import BacklogLimit
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

if TYPE_CHECKING:
    from edge.core import EdgeCore

logger = logging.getLogger(__name__)


class Recorded(NamedTuple):
    """What came of a recording; no document if it isn't there yet."""

    session_id: str
    document: Document | None


class Taken(NamedTuple):
    """A recording that is durable, all of it."""

    session: Session
    outcome: ResultWaiter


async def record(core: EdgeCore, incoming: UploadReader, principal: Principal) -> Recorded:
    """Put a recording into a session of its own and wait for its transcript.

    Raises:
        ApiError: what the client is to be told; then no session is left, unless its recording can't be decoded.
    """
    async with taken(core, incoming, principal) as (session, outcome):
        return Recorded(session.start.session_id, await awaited(incoming, outcome, core.settings.result_timeout_s))


@contextlib.asynccontextmanager
async def taken(
    core: EdgeCore, incoming: UploadReader, principal: Principal, batch: Batch | None = None
) -> AsyncIterator[Taken]:
    """Put a recording into a session of its own, whose place is held till the end of the block.

    Raises:
        ApiError: what the client is to be told; then no session is left.
    """
    if core.draining:
        raise _leaving()
    asked = formats.wanted(incoming.options, incoming.content_type, incoming.held)
    if incoming.is_whole and not incoming.held:
        raise ApiError(errors.INVALID_AUDIO, "the recording is empty")
    # Not shared: nobody else is told its id before all of it is there.
    wanted = parameters.parse(urlencode(asked).encode())._replace(batch=batch)
    session = await core.opener.open(wanted, principal)
    place = SessionLease(core, session.reservation)
    async with place.held():
        with ResultWaiter(core, session.keys.run()) as outcome:
            try:
                await _fill(core, session, incoming, place, outcome)
            except BaseException:
                await abandon(core, session)
                raise
            yield Taken(session, outcome)


async def awaited(incoming: UploadReader, outcome: ResultWaiter, wait_s: float) -> Document | None:
    """The transcript; None if it isn't there in time, or nobody waits for it any more.

    Raises:
        ApiError: as `ResultWaiter.document`.
    """
    waiting = asyncio.create_task(outcome.document(wait_s), name="transcript")
    tasks: list[asyncio.Task[Any]] = [waiting]
    if incoming.is_whole:
        tasks.append(asyncio.create_task(incoming.left(), name="client"))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def abandon(core: EdgeCore, session: Session) -> None:
    """Erase a session whose client never heard of it; if Redis is away, it ends as an idle one."""
    try:
        await erase(core.server, session.keys, session.start.tenant_id)
        core.metrics.ended("deleted")
    except LogUnavailableError:
        logger.info("a session was not erased; it will be idle", extra={"session_id": session.keys.session_id})


async def _fill(
    core: EdgeCore, session: Session, incoming: UploadReader, place: SessionLease, outcome: ResultWaiter
) -> None:
    async def check() -> None:
        place.check()
        if core.draining:
            raise _leaving()

    tail = LogAppender(
        core.log, session.stream, session.start, patience_s=core.settings.redis_outage_timeout_s,
        ahead_bytes=core.settings.max_upload_ahead_bytes, on_wait=check, pressure=core.pressure,
    )  # fmt: skip
    frame_bytes = frame_bytes_of(session.start)
    ahead = BacklogLimit(core, session, check)
    reason, rest = "stop", b""
    try:
        await tail.look()
        if (source := _source(session.start, incoming)) is not None:
            await tail.tell(source)
        async for piece in incoming.pieces():
            data = rest + piece
            rest = data[len(data) - len(data) % frame_bytes :]
            whole = data[: len(data) - len(rest)]
            room = room_bytes(core, session.start, tail)
            await ahead.wait(tail.end_bytes + len(whole), lambda: outcome.has_ended)
            await tail.append(whole[:room])
            if len(whole) > room:
                reason = "limit"
                break
            if outcome.has_ended:  # the decoder has said already that it is no recording
                break
            place.check()
            if core.draining:
                raise _leaving()
        await tail.seal(reason)
        core.metrics.ended(reason)
    except ApiError as error:
        if error.error is not errors.SESSION_ENDED:
            raise  # else ended from outside, or as one that can't be decoded: the outcome says so


def _source(start: SessionStarted, incoming: UploadReader) -> SourceDescribed | None:
    """How long bare samples will be, which nothing in them says; of a container its decoder will tell."""
    if start.encoding == CONTAINER or incoming.expected_bytes is None:
        return None
    return SourceDescribed(
        sample_rate_hz=start.sample_rate_hz, channels=start.channels, container="raw", codec="pcm_s16le",
        duration_samples=incoming.expected_bytes // frame_bytes_of(start),
    )  # fmt: skip


def room_bytes(core: EdgeCore, start: SessionStarted, tail: LogAppender) -> int:
    """How much more a session may have; of a container its decoder knows, not the edge."""
    if start.encoding == CONTAINER:
        return sys.maxsize
    most = int(core.settings.max_session_s * start.sample_rate_hz) * frame_bytes_of(start)
    return max(0, most - tail.end_bytes)


def _leaving() -> ApiError:
    return ApiError(errors.GOING_AWAY, "this replica shuts down; send the recording to another")
