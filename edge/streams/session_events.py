"""Server-sent events of sessions: how far they are, and what is being said."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Found, Principal, Scope
from edge.contract.operations import SESSION_ID, Answer, Operation, Parameter
from edge.errors import ApiError
from edge.streams.fan_out import Listener, Subscriber
from edge.streams.sse import HEADERS, MEDIA_TYPE, EventStream, EventStreamResponse, event
from edge.websocket import messages
from eventlog.keys import LIVE_RUN, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import SEALED, START, Position
from eventlog.readmodel import statuses, views
from eventlog.readmodel.feed import FeedKind
from eventlog.readmodel.runs import read_run_document
from eventlog.work.promotion import promoted_run

if TYPE_CHECKING:
    from edge.core import EdgeCore

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""While a transcript is awaited it is looked for this often, in case the message about it was lost."""

_ID = re.compile(r"(\d{1,20}-\d{1,20})(?:@([!-~]{1,256}))?", re.ASCII)
_LARGEST = 2**64 - 1  # both halves of an entry id are 64-bit integers

LAST_EVENT_ID = "Resumes after this event, as browsers do on their own; as parameter for a first connection."
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
    Answer(204, "Nothing comes after that event; browsers stop asking."),
)  # fmt: skip
_TROUBLES = (errors.INVALID_QUERY, errors.UNKNOWN_SESSION, errors.TOO_MANY_LISTENERS, errors.GOING_AWAY)


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed)


class _Heard(NamedTuple):
    """The last event that a listener got: where it stands, and in which run's feed."""

    position: Position
    run: str


class StatusStream(EventStream):
    """A listener to status messages; ends after the last."""

    __slots__ = ()

    def on_event(self, position: Position, body: str, *, last: bool) -> None:  # noqa: ARG002 - see `Sink`
        """See `Subscriber`."""
        self.push(event("status", body, str(position)))
        if statuses.decode_status(body).is_last:
            self.finish()


class TranscriptStream(EventStream):
    """A listener to a transcript; ends with the session."""

    __slots__ = ("endings",)

    endings: Endings

    def on_event(self, position: Position, body: str, *, last: bool) -> None:
        """See `Subscriber`."""
        if last:
            self.endings.wait(self, body)
        else:
            self.push(event(_typed.decode(body).type, body, _event_id(position, self.listener.keys.run)))

    def on_partial(self, body: str) -> None:
        """See `Subscriber`."""
        if not self.is_full():
            self.push(event("partial", body))

    def on_document(self) -> None:
        """See `Subscriber`."""
        self.endings.documented(self.listener.keys)

    def on_reset(self) -> None:
        """See `Subscriber`."""
        self.push(event("reset", messages.RESET))

    def on_promoted(self, run: str) -> None:
        """See `Subscriber`; one that has come to the end waits for the transcript of what it heard."""
        keys = self.listener.keys
        if run != keys.run and self.listener.position != SEALED:
            self.on_reset()
            self.turn(keys.session.run(run))


class Endings:
    """Fetches the transcripts of sessions that have ended, each once for all who listen."""

    def __init__(self, core: EdgeCore) -> None:
        """Read through `core`."""
        self._core = core
        self._waiting: dict[str, list[TranscriptStream]] = {}
        self._documented: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wait(self, stream: TranscriptStream, body: str) -> None:
        """End `stream` by the feed's last event `body`, as soon as the transcript is there or was awaited for long."""
        keys = stream.listener.keys
        waiting = self._waiting.setdefault(keys.member, [])
        waiting.append(stream)
        if len(waiting) == 1:
            task = asyncio.create_task(self._end(keys, body), name="transcript for listeners")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def documented(self, keys: RunKeys) -> None:
        """The transcript can be read."""
        if there := self._documented.get(keys.member):
            there.set()

    async def _end(self, keys: RunKeys, body: str) -> None:
        there = self._documented[keys.member] = asyncio.Event()
        transcript = None
        try:
            async with asyncio.timeout(self._core.settings.session_end_timeout_s):
                while (document := await read_run_document(self._core.server, keys)) is None:
                    await _either(there, LOOK_S)
                    there.clear()
                transcript = document.transcript
        except (TimeoutError, LogUnavailableError):
            transcript = None
        except Exception:  # whatever is wrong with it, nobody is left waiting
            logger.exception("transcript not read by a defect", extra={"session_id": keys.session_id})
        del self._documented[keys.member]
        waiting = self._waiting.pop(keys.member)
        url = f"/v1/sessions/{keys.session_id}/transcript"
        ended = messages.session_end(body, transcript, url, 0.0)
        last = event("session_end", ended, _event_id(SEALED, keys.run))
        for stream in waiting:
            stream.finish(last)


class Events:
    """The two event streams of a session."""

    def __init__(self, core: EdgeCore) -> None:
        """Listen through `core`."""
        self._core = core
        self._server = core.server
        self._streams = core.streams
        self._endings = Endings(core)

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "GET", "/api/v1/sessions/{session_id}/status/stream", "stream_status", "Events",
                "How far the session is, as server-sent events, until it is completed or has failed.",
                self.status, Scope.READ, _ANSWERS, _PARAMETERS, troubles=_TROUBLES, ticketed=True,
                description="For the session's owner, and tokens of scope `admin`.",
            ),
            Operation(
                "GET", "/v1/sessions/{session_id}/events", "stream_transcript", "Events",
                "The transcript as server-sent events, from the beginning to the session's end.",
                self.transcript, Scope.READ, _ANSWERS, _PARAMETERS, troubles=_TROUBLES, ticketed=True,
                description="Of the promoted run.",
            ),
        )  # fmt: skip

    async def status(self, request: Request) -> Response:
        """Status messages: the last one at once, or those after ``Last-Event-ID``."""
        principal, found, heard = await self._admitted(request, owner_only=True)
        keys, after = found.keys.run(), heard and heard.position
        last = await statuses.read_last_status(self._server, keys)
        if last is None:
            over = await statuses.has_ended(self._server, keys)
            # The last may have come between the two looks.
            last = await statuses.read_last_status(self._server, keys) if over else None
            if last is None:
                return await self._after_the_messages(keys, principal, after, over=over)
        position, body = last
        if after is None:
            greeting = event("status", body.decode(), str(position))
            is_over = statuses.decode_status(body).is_last
            return self._streaming(StatusStream, principal, keys, position, greeting, is_over=is_over)
        if after >= position and statuses.decode_status(body).is_last:
            return Response(status_code=204)
        return self._streaming(StatusStream, principal, keys, after)

    async def transcript(self, request: Request) -> Response:
        """The transcript's events from the beginning, or those after ``Last-Event-ID``; of the promoted run."""
        principal, found, heard = await self._admitted(request, owner_only=False)
        keys = await promoted_run(self._server, found.keys)
        if heard is None:
            return self._streaming(TranscriptStream, principal, keys, START)
        if heard.run != keys.run:  # another was promoted since
            return self._streaming(TranscriptStream, principal, keys, START, event("reset", messages.RESET))
        if heard.position == SEALED:
            return Response(status_code=204)
        return self._streaming(TranscriptStream, principal, keys, heard.position)

    async def _admitted(self, request: Request, *, owner_only: bool) -> tuple[Principal, Found, _Heard | None]:
        principal, found = await self._core.access.listener(
            request, request.path_params["session_id"], owner_only=owner_only
        )
        self._streams.require_room(_user(principal))
        return principal, found, _last_event_id(request)

    async def _after_the_messages(
        self, keys: RunKeys, principal: Principal, after: Position | None, *, over: bool
    ) -> Response:
        """There are no messages: not yet, or not any more, and then the view still knows how it ended."""
        view = await views.read_view(self._server, keys) if over else None
        if view is None or view.state != "CLOSED":
            return self._streaming(StatusStream, principal, keys, after or START)
        if after == SEALED:
            return Response(status_code=204)
        ending = statuses.Ending(
            session_id=keys.session_id, reason=view.reason or "", detail=view.detail or "", utterances=view.finals,
            audio_seconds=view.audio_seconds, opened_ms=view.opened_ms, ended_ms=view.ended_ms or view.last_ms,
        )  # fmt: skip
        body = statuses.encode_status(statuses.last_message(ending)).decode()
        greeting = event("status", body, str(SEALED))
        return self._streaming(StatusStream, principal, keys, SEALED, greeting, is_over=True)

    def _streaming(
        self, kind: type[StatusStream | TranscriptStream], principal: Principal, keys: RunKeys, position: Position,
        greeting: bytes = b"", *, is_over: bool = False,
    ) -> Response:  # fmt: skip
        feed = FeedKind.STATUS if kind is StatusStream else FeedKind.EVENT
        listener = Listener(keys, position, Subscriber(), feed)
        stream = kind(self._streams, listener, _user(principal), self._core.access.lapses_in_s(principal))
        if isinstance(stream, TranscriptStream):
            stream.endings = self._endings
        self._streams.admit(stream)
        return EventStreamResponse(stream, greeting, look=True, is_over=is_over)


def _user(principal: Principal) -> str:
    """Whom a listener counts for; nobody while authentication is off."""
    return f"{principal.tenant_id} {principal.subject}" if principal.subject else ""


def _last_event_id(request: Request) -> _Heard | None:
    text = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    if not text:
        return None
    parts = _ID.fullmatch(text)
    position = Position.parse(parts[1]) if parts else None
    if parts is None or position is None or max(position) > _LARGEST:
        raise ApiError(errors.INVALID_QUERY, "Last-Event-ID must be the id of an event of this stream")
    return _Heard(position, unquote(parts[2]) if parts[2] else LIVE_RUN)


def _event_id(position: Position, run: str) -> str:
    """An event's id, which names the run unless it is the live one: positions of two runs are no more than alike."""
    return str(position) if run == LIVE_RUN else f"{position}@{quote(run, safe='')}"


async def _either(there: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await there.wait()
    except TimeoutError:
        return
