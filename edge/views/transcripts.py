"""Transcripts over HTTP, in every format."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Scope, unknown_session
from edge.contract.operations import (
    JSON,
    SESSION_ID,
    Answer,
    Handler,
    Operation,
    Parameter,
    json_response,
    principal_of,
)
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.views.exports import Format, negotiate, render
from eventlog.keys import SessionKeys
from eventlog.readmodel import views
from eventlog.readmodel.documents import ListedFinal
from eventlog.readmodel.runs import read_run_transcript
from eventlog.readmodel.views import Transcript

_STRING = {"type": "string"}

_MAX_CHARACTERS = 256  # of a run's name, which has some 30
_RUN = Parameter(
    "run", "query", {"type": "string", "minLength": 1, "maxLength": _MAX_CHARACTERS},
    "Of this run, one of the session's `runs`, instead of the promoted one.",
)


class TranscriptSoFar(msgspec.Struct):
    """The JSON answer of ``/v1/sessions/{session_id}/transcript``."""

    session_id: str
    state: str
    """``active`` or ``closed``."""
    transcript: str
    utterances: list[ListedFinal]
    cleaned: str | None
    """The readable text: sentences and paragraphs, without fillers and stutters; null while the session is open."""
    run: str
    """The run of the transcript: ``live``, or the name of a replay that is promoted or was requested."""


class Transcripts:
    """``/v1/sessions/{session_id}/transcript``, with and without a suffix."""

    def __init__(self, core: EdgeCore) -> None:
        """Read from the server of `core`."""
        self._server = core.server
        self._access = core.access

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        kinds = {one.media_type: _STRING for one in Format} | {JSON: TranscriptSoFar}
        return (
            Operation(
                "GET", "/v1/sessions/{session_id}/transcript", "get_transcript", "Sessions",
                "The transcript: whole if the session has ended, so far if it is open.",
                self.transcript, Scope.READ,
                [Answer(200, "The transcript, in the format that `Accept` likes best.", kinds)],
                [SESSION_ID, _RUN],
                errors=[errors.INVALID_QUERY, errors.UNKNOWN_SESSION, errors.UNKNOWN_RUN, errors.NOT_ACCEPTABLE],
            ),
            *map(self._operation_of, Format),
        )  # fmt: skip

    def _operation_of(self, wanted: Format) -> Operation:
        kind = TranscriptSoFar if wanted is Format.JSON else _STRING
        return Operation(
            "GET", f"/v1/sessions/{{session_id}}/transcript.{wanted.suffix}", f"get_transcript_{wanted.suffix}",
            "Sessions", f"The transcript as {wanted.media_type}, regardless of `Accept`.",
            self._handler_of(wanted), Scope.READ, [Answer(200, "The transcript.", {wanted.media_type: kind})],
            [SESSION_ID, _RUN], errors=[errors.INVALID_QUERY, errors.UNKNOWN_SESSION, errors.UNKNOWN_RUN],
        )  # fmt: skip

    async def transcript(self, request: Request) -> Response:
        """The transcript in the format that ``Accept`` likes best."""
        # Several lines of one header are one list.
        answer = await self._answer(request, negotiate(", ".join(request.headers.getlist("accept"))))
        answer.headers["vary"] = "Accept"
        return answer

    def _handler_of(self, wanted: Format) -> Handler:
        async def answer(request: Request) -> Response:
            return await self._answer(request, wanted)

        return answer

    async def _answer(self, request: Request, wanted: Format) -> Response:
        session = await self._access.find_session(principal_of(request), request.path_params["session_id"])
        found = await self._find(session.keys, request.query_params.get("run"))
        if wanted is Format.JSON:
            state = "closed" if found.is_final else "active"
            session_id = session.keys.session_id
            return json_response(
                TranscriptSoFar(session_id, state, found.transcript, found.utterances, found.cleaned, found.run)
            )
        # In a thread: an hour's captions take a tenth of a second, in which no other session's frames may wait.
        text = await asyncio.to_thread(render, wanted, found.utterances)
        return Response(text, headers={"cache-control": "no-store"}, media_type=wanted.media_type)

    async def _find(self, keys: SessionKeys, run: str | None) -> Transcript:
        if run is None:
            found = await views.read_transcript(self._server, keys.run())
            if found is None:
                raise unknown_session()
            return found
        if not 0 < len(run) <= _MAX_CHARACTERS:
            raise ApiError(errors.INVALID_QUERY, f"run has from 1 to {_MAX_CHARACTERS} characters")
        found = await read_run_transcript(self._server, keys.run(run))
        if found is None:
            raise ApiError(errors.UNKNOWN_RUN, "the session has no such run, or it has expired")
        return found
