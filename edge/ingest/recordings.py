"""``POST /v1/transcribe``: one request, one recording, one transcript."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Scope
from edge.contract.operations import JSON, Answer, Operation, json_response, principal_of
from edge.core import EdgeCore
from edge.ingest import live_types
from edge.ingest.live import RECORDING
from edge.ingest.one_shot import transcribe
from edge.ingest.upload_reader import UploadReader
from edge.views.exports import Format, negotiate, render
from eventlog.readmodel.documents import Document


class Pending(msgspec.Struct):
    """A recording that takes longer than a request may wait."""

    session_id: str
    transcript_url: str
    events_url: str


class Recordings:
    """Whole recordings in one request."""

    def __init__(self, core: EdgeCore) -> None:
        """Serve by `core`."""
        self._core = core

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "POST", "/v1/transcribe", "transcribe", "Recordings", "Transcribe a recording.",
                self.transcribe, Scope.INGEST,
                [
                    Answer(
                        200, "The transcript.",
                        {one.media_type: Document if one is Format.JSON else {"type": "string"} for one in Format},
                        {"Vary": "Accept"},
                    ),
                    Answer(202, "Processing takes longer: the address of the transcript.", {JSON: Pending}),
                ],
                live_types.OPTIONS, live_types.recording_body("file"), [*RECORDING, errors.NOT_ACCEPTABLE],
            ),
        )  # fmt: skip

    async def transcribe(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        wanted = negotiate(request.headers.get("accept", ""))  # before any audio is read in vain
        reader = await UploadReader(request, core.settings.max_upload_bytes).read_head()
        transcribed = await transcribe(core, reader, principal_of(request))
        if transcribed.document is not None:
            return await _render(wanted, transcribed.document)
        urls = live_types.urls_of(transcribed.session_id)
        return json_response(Pending(transcribed.session_id, urls.transcript, urls.events), 202)


async def _render(wanted: Format, document: Document) -> Response:
    if wanted is Format.JSON:
        answer = json_response(document)
    else:
        headers = {"cache-control": "no-store"}
        # In a thread: an hour's captions take a tenth of a second, in which no other session's frames may wait.
        text = await asyncio.to_thread(render, wanted, document.utterances)
        answer = Response(text, headers=headers, media_type=wanted.media_type)
    answer.headers["vary"] = "Accept"
    return answer
