"""The two event streams of a session: its status, and its transcript."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import AccessibleSession, Principal, Scope
from edge.contract.operations import SESSION_ID, Answer, Operation, Parameter
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.streams.sse import HEADERS, MEDIA_TYPE, EventStream, EventStreamResponse, event
from edge.websocket import messages
from eventlog.keys import LIVE_RUN, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import SEALED, START, Position
from eventlog.readmodel import statuses, views
from eventlog.readmodel.feed import FeedKind
from eventlog.readmodel.runs import read_run_document
from eventlog.work.promotion import promoted_run

logger = logging.getLogger(__name__)

RETRY_S = 1.0
"""Between two reads for an awaited transcript, in case the message about it was lost."""

_ID = re.compile(r"(\d{1,20}-\d{1,20})(?:@([!-~]{1,256}))?", re.ASCII)
_LARGEST = 2**64 - 1  # both halves of an entry id are 64-bit integers

LAST_EVENT_ID = "Resume after this event. Browsers send it on a reconnect; the parameter is for a first connection."
_ID_SCHEMA = {"type": "string", "pattern": r"^[0-9]{1,20}-[0-9]{1,20}(@[!-~]{1,256})?$"}
_PARAMETERS = (
    SESSION_ID,
    Parameter("Last-Event-ID", "header", _ID_SCHEMA, LAST_EVENT_ID),
    Parameter("last_event_id", "query", _ID_SCHEMA, LAST_EVENT_ID + " The header wins."),
)
_ANSWERS = (
    Answer(
        200, "The stream; see docs/sse.md for its events.", {MEDIA_TYPE: {"type": "string"}},
        {name.title(): f"`{value}`" for name, value in HEADERS.items()},
    ),
    Answer(204, "No event follows that one; browsers stop reconnecting."),
)  # fmt: skip
_ERRORS = (errors.INVALID_QUERY, errors.UNKNOWN_SESSION, errors.TOO_MANY_LISTENERS, errors.GOING_AWAY)


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed)


class _LastEvent(NamedTuple):
    """The last event that a client received: its position, and the run whose feed has it."""

    position: Position
    run: str


class StatusStream(EventStream):
    """Streams status messages; ends after the last."""

    __slots__ = ()

    kind = FeedKind.STATUS

    def on_event(self, position: Position, body: str, *, last: bool) -> None:  # noqa: ARG002 - see `Subscriber`
        """See `Subscriber`."""
        self.push(event("status", body, str(position)))
        if statuses.decode_status(body).is_last:
            self.finish()


class TranscriptStream(EventStream):
    """Streams a transcript; ends with the session."""

    __slots__ = ("documents", "has_speech_events")

    documents: DocumentWaiter
    has_speech_events: bool

    def on_event(self, position: Position, body: str, *, last: bool) -> None:
        """See `Subscriber`."""
        if last:
            self.documents.finish(self, body)
        else:
            data = event(_typed.decode(body).type, body, _event_id(position, self.cursor.keys.run))
            if self.has_speech_events and (end := messages.encode_utterance_end(body)):
                data += event("utterance_end", end)
            self.push(data)

    def on_partial(self, body: str) -> None:
        """See `Subscriber`."""
        if not self.is_full():
            self.push(event("partial", body))

    def on_speech(self, body: str) -> None:
        """See `Subscriber`."""
        if not self.is_full():
            self.push(event("speech_started", body))

    def on_document(self) -> None:
        """See `Subscriber`."""
        self.documents.on_document(self.cursor.keys)

    def on_reset(self) -> None:
        """See `Subscriber`."""
        self.push(event("reset", messages.RESET))

    def on_promoted(self, run: str) -> None:
        """See `Subscriber`; a stream at the end of its feed waits for the transcript of that run instead."""
        keys = self.cursor.keys
        if run != keys.run and self.cursor.position != SEALED:
            self.on_reset()
            self.switch_run(keys.session.run(run))


class DocumentWaiter:
    """Waits for the documents of sessions that have ended, once a session for all its streams, and ends them."""

    def __init__(self, core: EdgeCore) -> None:
        """Read through `core`."""
        self._core = core
        self._waiting: dict[str, list[TranscriptStream]] = {}
        self._has_document: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def finish(self, stream: TranscriptStream, body: str) -> None:
        """End `stream` by the feed's last event `body`, once the transcript can be read or the wait timed out."""
        keys = stream.cursor.keys
        waiting = self._waiting.setdefault(keys.member, [])
        waiting.append(stream)
        if len(waiting) == 1:
            task = asyncio.create_task(self._end(keys, body), name="transcript of event streams")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def on_document(self, keys: RunKeys) -> None:
        """The transcript can be read."""
        if has_document := self._has_document.get(keys.member):
            has_document.set()

    async def _end(self, keys: RunKeys, body: str) -> None:
        has_document = self._has_document[keys.member] = asyncio.Event()
        transcript = None
        try:
            async with asyncio.timeout(self._core.settings.session_end_timeout_s):
                while (document := await read_run_document(self._core.server, keys)) is None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(RETRY_S):
                            await has_document.wait()
                    has_document.clear()
                transcript = document.transcript
        except (TimeoutError, LogUnavailableError):
            pass  # the last event then names the transcript's URL
        except Exception:  # a defect must not leave the streams open
            logger.exception("transcript not read by a defect", extra={"session_id": keys.session_id})
        del self._has_document[keys.member]
        waiting = self._waiting.pop(keys.member)
        url = f"/v1/sessions/{keys.session_id}/transcript"
        ended = messages.encode_session_end(body, transcript, url, 0.0)
        last = event("session_end", ended, _event_id(SEALED, keys.run))
        for stream in waiting:
            stream.finish(last)


class Events:
    """The two event streams of a session."""

    def __init__(self, core: EdgeCore) -> None:
        """Stream through `core`."""
        self._core = core
        self._server = core.server
        self._streams = core.streams
        self._documents = DocumentWaiter(core)

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "GET", "/api/v1/sessions/{session_id}/status/stream", "stream_status", "Events",
                "The session's progress as server-sent events, until it is completed or has failed.",
                self.status, Scope.READ, _ANSWERS, _PARAMETERS, errors=_ERRORS, accepts_ticket=True,
                description="For the session's owner, and tokens of scope `admin`.",
            ),
            Operation(
                "GET", "/v1/sessions/{session_id}/events", "stream_transcript", "Events",
                "The transcript as server-sent events, from the beginning to the session's end.",
                self.transcript, Scope.READ, _ANSWERS, _PARAMETERS, errors=_ERRORS, accepts_ticket=True,
                description="Of the promoted run.",
            ),
        )  # fmt: skip

    async def status(self, request: Request) -> Response:
        """Status messages: the last one at once, or those after ``Last-Event-ID``."""
        principal, session, last_event = await self._authorize(request, owner_only=True)
        keys, after = session.keys.run(), last_event and last_event.position
        last = await statuses.read_last_status(self._server, keys)
        if last is None:
            over = await statuses.has_ended(self._server, keys)
            # The last may have come between the two looks.
            last = await statuses.read_last_status(self._server, keys) if over else None
            if last is None:
                return await self._without_messages(keys, principal, after, over=over)
        position, body = last
        if after is None:
            greeting = event("status", body.decode(), str(position))
            is_over = statuses.decode_status(body).is_last
            return self._stream(StatusStream, principal, keys, position, greeting, is_over=is_over)
        if after >= position and statuses.decode_status(body).is_last:
            return Response(status_code=204)
        return self._stream(StatusStream, principal, keys, after)

    async def transcript(self, request: Request) -> Response:
        """The transcript's events from the beginning, or those after ``Last-Event-ID``; of the promoted run."""
        principal, session, last_event = await self._authorize(request, owner_only=False)
        keys = await promoted_run(self._server, session.keys)
        after, greeting = START, b""
        if last_event is not None and last_event.run != keys.run:  # another was promoted since
            greeting = event("reset", messages.RESET)
        elif last_event is not None:
            after = last_event.position
        if after == SEALED:
            return Response(status_code=204)
        return self._stream(
            TranscriptStream, principal, keys, after, greeting,
            has_speech_events=session.log_position.start.speech_events,
        )  # fmt: skip

    async def _authorize(
        self, request: Request, *, owner_only: bool
    ) -> tuple[Principal, AccessibleSession, _LastEvent | None]:
        principal, session = await self._core.access.authorize_subscriber(
            request, request.path_params["session_id"], owner_only=owner_only
        )
        self._streams.require_room(_user(principal))
        return principal, session, _last_event(request)

    async def _without_messages(
        self, keys: RunKeys, principal: Principal, after: Position | None, *, over: bool
    ) -> Response:
        """Answer while no message exists: not yet, or not any more, and then the view still knows the end."""
        view = await views.read_view(self._server, keys) if over else None
        if view is None or view.state != "CLOSED":
            return self._stream(StatusStream, principal, keys, after or START)
        if after == SEALED:
            return Response(status_code=204)
        ending = statuses.Ending(
            session_id=keys.session_id, reason=view.reason or "", detail=view.detail or "", utterances=view.finals,
            audio_seconds=view.audio_seconds, opened_ms=view.opened_ms, ended_ms=view.ended_ms or view.last_ms,
        )  # fmt: skip
        body = statuses.encode_status(statuses.last_message(ending)).decode()
        greeting = event("status", body, str(SEALED))
        return self._stream(StatusStream, principal, keys, SEALED, greeting, is_over=True)

    def _stream(
        self, kind: type[StatusStream | TranscriptStream], principal: Principal, keys: RunKeys, position: Position,
        greeting: bytes = b"", *, is_over: bool = False, has_speech_events: bool = False,
    ) -> Response:  # fmt: skip
        expires_in_s = self._core.access.expires_in_s(principal)
        stream = kind(self._streams, keys, position, _user(principal), expires_in_s)
        if isinstance(stream, TranscriptStream):
            stream.documents = self._documents
            stream.has_speech_events = has_speech_events
        self._streams.admit(stream)
        return EventStreamResponse(stream, greeting, is_over=is_over)


def _user(principal: Principal) -> str:
    """The user whose limit a stream counts for; empty while authentication is off."""
    return f"{principal.tenant_id} {principal.subject}" if principal.subject else ""


def _last_event(request: Request) -> _LastEvent | None:
    text = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    if not text:
        return None
    parts = _ID.fullmatch(text)
    position = Position.parse(parts[1]) if parts else None
    if parts is None or position is None or max(position) > _LARGEST:
        raise ApiError(errors.INVALID_QUERY, "Last-Event-ID must be the id of an event of this stream")
    return _LastEvent(position, unquote(parts[2]) if parts[2] else LIVE_RUN)


def _event_id(position: Position, run: str) -> str:
    """Make an event's id. It names any run but the live one, since equal positions of two runs are unrelated."""
    return str(position) if run == LIVE_RUN else f"{position}@{quote(run, safe='')}"
