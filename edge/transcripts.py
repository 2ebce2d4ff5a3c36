"""Sessions and their transcripts over HTTP, from the read models."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edge import errors
from edge.access import Scope, unknown_session
from edge.core import EdgeCore
from edge.errors import WireError
from edge.health import json_response
from edge.operations import JSON, SESSION_ID, TEXT, Answer, Operation, Parameter, principal_of
from eventlog import readmodels
from eventlog.documents import ListedFinal
from eventlog.keys import RunKeys

MOST_LISTED = 1000
"""Sessions in one answer: some 300 kB."""

STATES = ("CREATED", "ACTIVE", "CLOSED")


class Listing(msgspec.Struct):
    """What ``/v1/sessions`` says."""

    sessions: list[readmodels.SessionView]


class TranscriptSoFar(msgspec.Struct):
    """What ``/v1/sessions/{session_id}/transcript`` says as JSON."""

    session_id: str
    state: str
    transcript: str
    utterances: list[ListedFinal]


class Transcripts:
    """``/v1/sessions`` and below."""

    def __init__(self, core: EdgeCore) -> None:
        """Read from the server of `core`."""
        self._server = core.server
        self._access = core.access

    def operations(self) -> Sequence[Operation]:
        """See `edge.operations`."""
        return (
            Operation(
                "GET", "/v1/sessions", "list_sessions", "Sessions", "The sessions, the youngest first.",
                self.sessions, Scope.READ, [Answer(200, "The sessions.", {JSON: Listing})],
                [
                    Parameter("state", "query", {"type": "string", "enum": [*map(str.lower, STATES)]}, "Only these."),
                    Parameter(
                        "limit", "query", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}, "Most to list."
                    ),
                ],
                troubles=[errors.BAD_QUERY],
            ),
            Operation(
                "GET", "/v1/sessions/{session_id}", "get_session", "Sessions", "One session's state and numbers.",
                self.session, Scope.READ, [Answer(200, "The session.", {JSON: readmodels.SessionView})],
                [SESSION_ID], troubles=[errors.UNKNOWN_SESSION],
            ),
            Operation(
                "GET", "/v1/sessions/{session_id}/transcript", "get_transcript", "Sessions",
                "The transcript: whole if the session has ended, so far if it lives.",
                self.transcript, Scope.READ,
                [Answer(200, "The transcript.", {JSON: TranscriptSoFar, TEXT: {"type": "string"}})],
                [SESSION_ID], troubles=[errors.UNKNOWN_SESSION],
            ),
        )  # fmt: skip

    async def sessions(self, request: Request) -> Response:
        """The sessions, the youngest first; ``?state=`` and ``?limit=`` narrow them down."""
        limit = request.query_params.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_LISTED):
            raise WireError(errors.BAD_QUERY, f"limit must be a whole number from 1 to {MOST_LISTED}")
        state = request.query_params.get("state")
        if state is not None and state.upper() not in STATES:
            raise WireError(errors.BAD_QUERY, f"state must be one of {', '.join(STATES).lower()}")
        views = await readmodels.list_sessions(self._server, state=state and state.upper(), limit=int(limit))
        return json_response(Listing(views))

    async def session(self, request: Request) -> Response:
        """One session's state and numbers."""
        keys = await self._keys(request)
        view = await readmodels.read_view(self._server, keys)
        if view is None:
            raise unknown_session()
        return json_response(view)

    async def transcript(self, request: Request) -> Response:
        """The transcript: whole if the session has ended, so far if it lives; JSON, or text by ``Accept``."""
        keys = await self._keys(request)
        found = await readmodels.read_transcript(self._server, keys)
        if found is None:
            raise unknown_session()
        if _wants_text(request):
            answer: Response = PlainTextResponse(found.transcript + "\n", headers={"cache-control": "no-store"})
        else:
            state = "closed" if found.is_final else "active"
            answer = json_response(TranscriptSoFar(keys.session_id, state, found.transcript, found.utterances))
        answer.headers["vary"] = "Accept"
        return answer

    async def _keys(self, request: Request) -> RunKeys:
        found = await self._access.session(principal_of(request), request.path_params["session_id"])
        return found.keys.run()


def _wants_text(request: Request) -> bool:
    """Whether plain text comes before JSON in ``Accept``, by quality and then by order; JSON unless asked otherwise."""
    best, text = -1.0, False
    for part in request.headers.get("accept", "").split(","):
        kind, *options = (piece.strip().lower() for piece in part.split(";"))
        quality = next((option[2:] for option in options if option.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            continue
        if kind in {"text/plain", "text/*", "application/json", "application/*", "*/*"} and weight > best:
            best, text = weight, kind.startswith("text/")
    return text
