"""``/batch``: recorded files, processed on somebody's behalf, whose completion outside sinks are told of."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Principal, Scope
from edge.contract.operations import JSON, SESSION_ID, Answer, Operation, principal_of
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.ingest import batch_types, live_types
from edge.ingest.batch_types import BatchPending, BatchResult
from edge.ingest.identity import ACCOUNT_HEADER, TENANT_HEADER, USER_HEADER, Fallbacks, Identity, identified
from edge.ingest.live import RECORDING
from edge.ingest.one_shot import Taken, awaited, taken
from edge.ingest.preferences import Preferences, preferred
from edge.ingest.result_waiter import FAILED, ResultWaiter
from edge.ingest.upload_reader import UploadReader
from edge.views.health import json_response
from eventlog.events import Batch, SessionStarted
from eventlog.keys import RunKeys
from eventlog.readmodel import views
from eventlog.readmodel.documents import Document
from eventlog.readmodel.statuses import StatusMessage, decode_status, read_last_status

logger = logging.getLogger(__name__)

IDLE = "idle"
"""Reason of the end of a recording whose edge died before it had all of it: nobody was ever told its id."""

_LOCATED = {"Location": "Where the result will be.", "Preference-Applied": "What was heeded of `Prefer`, if anything."}


class Batches:
    """Both operations under ``/batch``."""

    def __init__(self, core: EdgeCore) -> None:
        """Serve by `core`."""
        self._core = core
        self._fallbacks = Fallbacks(core.settings.mock_tenant_id, core.settings.mock_user_id)

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        not_yet = "It takes longer, or was asked to: where the result will be."
        return (
            Operation(
                "POST", "/batch/process", "process_batch", "Recordings",
                "Process a recorded file; its completion is told to the outside as well.",
                self.process, Scope.INGEST,
                [
                    Answer(200, "Its transcript.", {JSON: BatchResult}, {"Preference-Applied": "As with 202."}),
                    Answer(202, not_yet, {JSON: BatchPending}, _LOCATED),
                ],
                [batch_types.PREFER, *batch_types.IDENTITY, *live_types.OPTIONS],
                live_types.recording("file"), RECORDING,
            ),
            Operation(
                "GET", "/batch/{session_id}", "get_batch", "Recordings",
                "A recorded file's result, by its interaction id.", self.result, Scope.READ,
                [Answer(200, "It.", {JSON: BatchResult}), Answer(202, "Not yet.", {JSON: BatchPending})],
                [SESSION_ID], errors=[errors.UNKNOWN_SESSION, errors.INVALID_AUDIO, errors.QUARANTINED],
                description="Of a session that came another way too.",
            ),
        )  # fmt: skip

    async def process(self, request: Request) -> Response:
        """See `operations`."""
        core, started = self._core, time.monotonic()
        preferences = preferred(request.headers.getlist("prefer"))
        principal = principal_of(request)
        identity = self._identity(request, principal)
        incoming = await UploadReader(request, core.settings.max_upload_bytes).begin()
        batch = Batch(user_id=identity.user_id, account_id=identity.account_id)
        async with taken(core, incoming, principal._replace(tenant_id=identity.tenant_id), batch) as recording:
            start = recording.session.start
            _log(start, "recording taken", size_bytes=incoming.size_bytes, took_s=round(time.monotonic() - started, 3))
            document = await self._document(incoming, recording, preferences)
        return self._answer(start, document, preferences)

    async def result(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        found = await core.access.session(principal_of(request), request.path_params["session_id"])
        start, keys = found.whereabouts.start, found.keys.run()
        document = await views.read_document(core.server, keys)
        if document is None:
            return json_response(batch_types.pending(start, await self._status(keys)), 202)
        if document.reason == FAILED:
            with ResultWaiter(core, keys) as outcome:
                await outcome.document(core.settings.session_end_timeout_s)  # raises, and says why once the feed has told it
        if document.reason == IDLE and start.batch is not None:
            raise ApiError(errors.INVALID_AUDIO, "the recording was cut off: its end never came")
        return json_response(batch_types.result(start, document))

    def _identity(self, request: Request, principal: Principal) -> Identity:
        headers = {name: request.headers.getlist(name) for name in (TENANT_HEADER, USER_HEADER, ACCOUNT_HEADER)}
        identity, malformed = identified(principal, headers, self._fallbacks)
        for header, shown in malformed:
            logger.warning(
                "a malformed header was replaced",
                extra={"header": header, "value": shown, "tenant_id": identity.tenant_id},
            )
        return identity

    async def _document(self, incoming: UploadReader, recording: Taken, preferences: Preferences) -> Document | None:
        wait_s = preferences.patience_s(self._core.settings.batch_timeout_s)
        try:
            return await awaited(incoming, recording.outcome, wait_s)
        except ApiError as error:
            interaction_id = recording.session.start.session_id
            _log(recording.session.start, "recording failed", code=error.error.code)
            raise ApiError(error.error, f"{error.message} (interaction {interaction_id})") from error

    async def _status(self, keys: RunKeys) -> StatusMessage | None:
        last = await read_last_status(self._core.server, keys)
        return None if last is None else decode_status(last[1])

    def _answer(self, start: SessionStarted, document: Document | None, preferences: Preferences) -> Response:
        if document is None:
            answer = json_response(batch_types.pending(start), 202)
            answer.headers["location"] = batch_types.result_url(start.session_id)
        else:
            answer = json_response(batch_types.result(start, document))
            _log(start, "recording answered", raw_characters=len(document.transcript),
                 cleaned_characters=len(document.cleaned), segments=len(document.utterances))
        if applied := preferences.applied(self._core.settings.batch_timeout_s, is_async=document is None):
            answer.headers["preference-applied"] = applied
        return answer


def _log(start: SessionStarted, words: str, **more: object) -> None:
    logger.info(words, extra={"interaction_id": start.session_id, "tenant_id": start.tenant_id, **more})
