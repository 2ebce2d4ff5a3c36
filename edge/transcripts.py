"""Sessions and their transcripts over HTTP, from the read models."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edge import errors
from edge.core import EdgeCore
from edge.errors import WireError
from edge.health import json_response
from edge.parameters import canonical_session_id
from eventlog import readmodels
from eventlog.keys import RunKeys

MOST_LISTED = 1000
"""Sessions in one answer: some 300 kB."""

STATES = ("CREATED", "ACTIVE", "CLOSED")


class Transcripts:
    """``/v1/sessions`` and below."""

    def __init__(self, core: EdgeCore) -> None:
        """Read from the server of `core`."""
        self._server = core.server

    async def sessions(self, request: Request) -> Response:
        """The sessions, the youngest first; ``?state=`` and ``?limit=`` narrow them down."""
        limit = request.query_params.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_LISTED):
            raise WireError(errors.BAD_QUERY, f"limit must be a whole number from 1 to {MOST_LISTED}")
        state = request.query_params.get("state")
        if state is not None and state.upper() not in STATES:
            raise WireError(errors.BAD_QUERY, f"state must be one of {', '.join(STATES).lower()}")
        views = await readmodels.list_sessions(self._server, state=state and state.upper(), limit=int(limit))
        return json_response({"sessions": views})

    async def session(self, request: Request) -> Response:
        """One session's state and numbers."""
        keys = self._keys(request)
        view = await readmodels.read_view(self._server, keys)
        if view is None:
            raise _unknown()
        return json_response(view)

    async def transcript(self, request: Request) -> Response:
        """The transcript: whole if the session has ended, so far if it lives; JSON, or text by ``Accept``."""
        keys = self._keys(request)
        found = await readmodels.read_transcript(self._server, keys)
        if found is None:
            raise _unknown()
        if _wants_text(request):
            answer: Response = PlainTextResponse(found.transcript + "\n", headers={"cache-control": "no-store"})
        else:
            body = {
                "session_id": keys.session_id,
                "state": "closed" if found.is_final else "active",
                "transcript": found.transcript,
                "utterances": found.utterances,
            }
            answer = json_response(body)
        answer.headers["vary"] = "Accept"
        return answer

    def _keys(self, request: Request) -> RunKeys:
        try:
            session_id = canonical_session_id(request.path_params["session_id"])
        except WireError:
            raise _unknown() from None
        return self._server.keys.of(session_id).run()


def _unknown() -> WireError:
    return WireError(errors.UNKNOWN_SESSION, "there is no such session, or it has expired")


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
