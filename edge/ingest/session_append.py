"""Requests that bring one session's audio chunk by chunk; any replica takes any of them, and none keeps anything."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request

from edge import errors
from edge.auth.access import Principal
from edge.errors import ApiError
from edge.ingest.live_types import SoFar
from edge.ingest.log_appender import LogAppender
from edge.ingest.one_shot import room_bytes
from edge.ingest.result_waiter import ResultWaiter
from edge.ingest.session_lease import LeaseRenewal, SessionLease
from edge.ingest.upload_reader import UploadReader
from edge.session.reservations import Reservation
from edge.session.uplink import frame_bytes_of
from eventlog.events import CONTAINER, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.positions import SEALED

if TYPE_CHECKING:
    from edge.core import EdgeCore

_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(?:\*|\d{1,15})")  # 15 digits: a petabyte


class SessionAppend(NamedTuple):
    """A session that a request may append to."""

    keys: SessionKeys
    start: SessionStarted
    tail: LogAppender
    has_ended: bool
    """Its audio has its end; so it may be before its upload has, by its decoder."""

    @property
    def reservation(self) -> Reservation:
        """What it takes of the limits."""
        return Reservation(self.keys.session_id, self.start.tenant_id)


async def shared(core: EdgeCore, principal: Principal, session_id: str) -> SessionAppend:
    """The principal's session, ended or not.

    Raises:
        ApiError: `unknown_session` or `transport_mismatch`.
        LogUnavailableError: if Redis can't be reached.
    """
    found = await core.access.session(principal, session_id, owner_only=True)
    keys, start = found.keys, found.whereabouts.start
    if not start.shared:
        raise ApiError(errors.TRANSPORT_MISMATCH, "the session is fed by a WebSocket")
    stream = keys.upload if start.encoding == CONTAINER else keys
    place = SessionLease(core, Reservation(session_id, start.tenant_id))
    renewing = LeaseRenewal(place, core.settings.reservation_ttl_s / 3)
    tail = LogAppender(
        core.log, stream, start, patience_s=core.settings.redis_outage_timeout_s, ahead_bytes=core.settings.max_upload_ahead_bytes,
        on_wait=renewing.renew, pressure=core.pressure,
    )  # fmt: skip
    return SessionAppend(keys, start, tail, found.whereabouts.head == SEALED)


async def join(core: EdgeCore, principal: Principal, session_id: str) -> SessionAppend:
    """A session that lives, with its place renewed and its end looked up.

    Raises:
        ApiError: as `shared`; `session_ended` or `session_limit_exceeded`.
        LogUnavailableError: if Redis can't be reached.
    """
    joined = await shared(core, principal, session_id)
    if joined.has_ended:
        raise ApiError(errors.SESSION_ENDED, "the session has ended and takes no more audio")
    await joined.tail.look()
    await SessionLease(core, joined.reservation).renew()
    return joined


def offset_of(request: Request, incoming: UploadReader) -> int | None:
    """Where the chunk begins in the session's bytes, by `Content-Range` or `offset`; None where it says nothing.

    Raises:
        ApiError: `invalid_request` or `invalid_query`.
    """
    text = incoming.options.get("offset")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 15):  # noqa: PLR2004 - as _RANGE
        raise ApiError(errors.INVALID_QUERY, "offset must be a whole number of bytes")
    header = request.headers.get("content-range")
    if header is None:
        return None if text is None else int(text)
    said = _RANGE.fullmatch(header)
    if said is None:
        raise ApiError(errors.INVALID_REQUEST, "Content-Range must read like: bytes 0-31999/*")
    first, last = int(said[1]), int(said[2])
    if incoming.is_whole and last - first + 1 != len(incoming.held):
        raise ApiError(errors.INVALID_REQUEST, f"Content-Range speaks of {last - first + 1} bytes, and they are not")
    if text is not None and int(text) != first:
        raise ApiError(errors.INVALID_REQUEST, "Content-Range and offset contradict each other")
    return first


async def add_chunk(core: EdgeCore, joined: SessionAppend, incoming: UploadReader, at_bytes: int | None) -> int:
    """Append a chunk; returns where it ends, in bytes.

    Raises:
        ApiError: `invalid_request` if it cuts a sample, `session_too_long`, or what `LogAppender.append` raises.
    """
    tail, frame_bytes = joined.tail, frame_bytes_of(joined.start)
    if (at_bytes or 0) % frame_bytes or (incoming.is_whole and len(incoming.held) % frame_bytes):
        raise _cut(frame_bytes)
    at, rest, end = at_bytes, b"", tail.end_bytes if at_bytes is None else at_bytes
    async for piece in incoming.pieces():
        data = rest + piece
        whole = len(data) - len(data) % frame_bytes
        rest = data[whole:]
        room = room_bytes(core, joined.start, tail)
        end = await tail.append(data[: min(whole, room)], at)
        at = None if at is None else at + whole
        if whole > room:
            await tail.seal("limit")
            core.metrics.ended("limit")
            await core.release(joined.reservation)
            most_s = core.settings.max_session_s
            raise ApiError(errors.SESSION_TOO_LONG, f"a session has at most {most_s:g} s of audio")
    if rest:
        raise _cut(frame_bytes, f"; what comes before it is taken, up to offset {end}")
    return end


async def all_so_far(core: EdgeCore, joined: SessionAppend, incoming: UploadReader, at_bytes: int | None) -> SoFar:
    """Append a chunk and wait for all that can be said then.

    Raises:
        ApiError: as `add_chunk`.
        LogUnavailableError: if Redis can't be reached.
    """
    with ResultWaiter(core, joined.keys.run()) as outcome:
        await add_chunk(core, joined, incoming, at_bytes)
        request = uuid.uuid4().hex
        await joined.tail.ask(request)
        return await outcome.answer(request, core.settings.result_timeout_s)


def _cut(frame_bytes: int, more: str = "") -> ApiError:
    return ApiError(
        errors.INVALID_REQUEST,
        f"a chunk of samples has a multiple of {frame_bytes} bytes, and so has its offset: send the rest with the next"
        + more,
    )
