"""``/batch``: recorded files, processed on a user's behalf; sinks outside get their completion as events."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Principal, Scope
from edge.contract.operations import JSON, SESSION_ID, Answer, Operation, Parameter, json_response, principal_of
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.ingest import live_types
from edge.ingest.identity import ACCOUNT_HEADER, TENANT_HEADER, USER_HEADER, Fallbacks, Identity, identify
from edge.ingest.live import RECORDING
from edge.ingest.one_shot import Uploaded, upload, wait_for_document
from edge.ingest.preferences import Preferences, parse_preferences
from edge.ingest.result_waiter import FAILED, ResultWaiter
from edge.ingest.upload_reader import UploadReader
from eventlog.events import Batch, SessionStarted
from eventlog.keys import RunKeys
from eventlog.readmodel import views
from eventlog.readmodel.documents import Document, ListedFinal, TimedWord
from eventlog.readmodel.statuses import StatusMessage, decode_status, read_last_status

logger = logging.getLogger(__name__)

IDLE = "idle"
"""Reason of the end of a recording whose edge died before it had all of it: no client ever learned its id."""


class Segment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One utterance word by word; times in seconds of audio."""

    utterance: int
    start: float
    end: float
    text: str
    speaker: str
    channel: int
    confidence: float
    language: str = ""
    """Of the text; absent if the recogniser does not report it."""
    words: tuple[TimedWord, ...] = ()
    """In order; absent if the recogniser gives no times."""


class BatchResult(msgspec.Struct, kw_only=True):
    """A processed recording."""

    interaction_id: str
    """Also the id of its session, which has all further data."""
    raw_transcript: str
    """The speech word by word."""
    cleaned_transcript: str
    """The readable text: without fillers and stutters, in sentences and paragraphs."""
    segments: list[Segment]
    tenant_id: str
    user_id: str | None
    """Null for a session that `/batch/process` did not open; so is `account_id`."""
    account_id: str | None
    reason: str
    """`stop` if all of it is processed, `limit` if it exceeded the longest duration and was cut off there."""
    language: str | None
    audio_seconds: float
    completed_at: str
    """ISO 8601, UTC."""
    transcript_url: str
    """The transcript as JSON, text, SRT or WebVTT, by `Accept`."""


class BatchPending(msgspec.Struct, kw_only=True):
    """A recording whose processing continues."""

    interaction_id: str
    tenant_id: str
    user_id: str | None
    account_id: str | None
    result_url: str
    """Answers 200 once it is processed, 202 before."""
    status_url: str
    """Server-sent events of its progress."""
    transcript_url: str
    events_url: str
    """Server-sent events of its transcript."""
    status: StatusMessage | None
    """Its progress now; null while that is unknown."""


_PREFER = Parameter(
    "Prefer", "header", {"type": "string"},
    "`respond-async`: answer 202 once the recording is durable. `wait=N`: answer so after N seconds at the latest.",
)
_IDENTITY = (
    Parameter(
        TENANT_HEADER, "header", {"type": "string"},
        "Tenant, a UUID v4; a malformed one is replaced. A token's claim wins.",
    ),
    Parameter(USER_HEADER, "header", {"type": "string"}, "User: at most 255 printable ASCII characters without spaces. "
              "A token's subject wins."),
    Parameter(ACCOUNT_HEADER, "header", {"type": "string"}, "Account, of the same characters. A token's claim wins."),
)  # fmt: skip


_LOCATED = {"Location": "Address of the result.", "Preference-Applied": "Preferences of `Prefer` that were applied."}


class Batches:
    """Both operations under ``/batch``."""

    def __init__(self, core: EdgeCore) -> None:
        """Serve by `core`."""
        self._core = core
        self._fallbacks = Fallbacks(core.settings.mock_tenant_id, core.settings.mock_user_id)

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        pending = "Processing takes longer, or `Prefer` asks for it: the address of the result."
        return (
            Operation(
                "POST", "/batch/process", "process_batch", "Recordings",
                "Process a recorded file; sinks get its completion as well.",
                self.process, Scope.INGEST,
                [
                    Answer(200, "The transcript.", {JSON: BatchResult}, {"Preference-Applied": "As with 202."}),
                    Answer(202, pending, {JSON: BatchPending}, _LOCATED),
                ],
                [_PREFER, *_IDENTITY, *live_types.OPTIONS],
                live_types.recording_body("file"), RECORDING,
            ),
            Operation(
                "GET", "/batch/{session_id}", "get_batch", "Recordings",
                "A recorded file's result, by its interaction id.", self.result, Scope.READ,
                [Answer(200, "The result.", {JSON: BatchResult}), Answer(202, "The progress.", {JSON: BatchPending})],
                [SESSION_ID], errors=[errors.UNKNOWN_SESSION, *live_types.FAILURES],
                description="Of any other session as well.",
            ),
        )  # fmt: skip

    async def process(self, request: Request) -> Response:
        """See `operations`."""
        core, started = self._core, time.monotonic()
        preferences = parse_preferences(request.headers.getlist("prefer"))
        principal = principal_of(request)
        identity = self._identity(request, principal)
        reader = await UploadReader(request, core.settings.max_upload_bytes).read_head()
        batch = Batch(user_id=identity.user_id, account_id=identity.account_id)
        async with upload(core, reader, principal._replace(tenant_id=identity.tenant_id), batch) as recording:
            start = recording.session.start
            _log(start, "recording taken", size_bytes=reader.size_bytes, took_s=round(time.monotonic() - started, 3))
            document = await self._wait_for_document(reader, recording, preferences)
        return self._answer(start, document, preferences)

    async def result(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        found = await core.access.find_session(principal_of(request), request.path_params["session_id"])
        start, keys = found.log_position.start, found.keys.run()
        document = await views.read_document(core.server, keys)
        if document is None:
            return json_response(_pending(start, await self._status(keys)), 202)
        if document.reason == FAILED:
            with ResultWaiter(core, keys) as waiter:  # raises, with the reason that the feed has
                await waiter.wait_for_document(core.settings.session_end_timeout_s)
        if document.reason == IDLE and start.batch is not None:
            raise ApiError(errors.INVALID_AUDIO, "the recording was cut off: its end never arrived")
        return json_response(_result(start, document))

    def _identity(self, request: Request, principal: Principal) -> Identity:
        headers = {name: request.headers.getlist(name) for name in (TENANT_HEADER, USER_HEADER, ACCOUNT_HEADER)}
        identity, malformed = identify(principal, headers, self._fallbacks)
        for header, shown in malformed:
            extra = {"header": header, "value": shown, "tenant_id": identity.tenant_id}
            logger.warning("malformed header replaced", extra=extra)
        return identity

    async def _wait_for_document(
        self, reader: UploadReader, recording: Uploaded, preferences: Preferences
    ) -> Document | None:
        timeout_s = preferences.timeout_s(self._core.settings.batch_timeout_s)
        try:
            return await wait_for_document(reader, recording.waiter, timeout_s)
        except ApiError as error:
            interaction_id = recording.session.start.session_id
            _log(recording.session.start, "recording failed", code=error.error.code)
            raise ApiError(error.error, f"{error.message} (interaction {interaction_id})") from error

    async def _status(self, keys: RunKeys) -> StatusMessage | None:
        last = await read_last_status(self._core.server, keys)
        return None if last is None else decode_status(last[1])

    def _answer(self, start: SessionStarted, document: Document | None, preferences: Preferences) -> Response:
        if document is None:
            answer = json_response(_pending(start), 202)
            answer.headers["location"] = result_url(start.session_id)
        else:
            answer = json_response(_result(start, document))
            _log(start, "recording answered", raw_characters=len(document.transcript),
                 cleaned_characters=len(document.cleaned), segments=len(document.utterances))
        if applied := preferences.applied(self._core.settings.batch_timeout_s, is_async=document is None):
            answer.headers["preference-applied"] = applied
        return answer


def identity_of(start: SessionStarted) -> Identity | None:
    """The identity for which a recording is processed; None for any other session."""
    batch = start.batch
    return None if batch is None else Identity(start.tenant_id, batch.user_id, batch.account_id)


def _result(start: SessionStarted, document: Document) -> BatchResult:
    """Answer for a session that has ended with a transcript."""
    identity, session_id = identity_of(start), start.session_id
    return BatchResult(
        interaction_id=session_id, raw_transcript=document.transcript, cleaned_transcript=document.cleaned,
        segments=[_segment(one) for one in document.utterances], tenant_id=start.tenant_id,
        user_id=identity and identity.user_id, account_id=identity and identity.account_id, reason=document.reason,
        language=document.language, audio_seconds=document.audio_seconds, completed_at=document.ended_at,
        transcript_url=f"/v1/sessions/{session_id}/transcript",
    )  # fmt: skip


def _pending(start: SessionStarted, status: StatusMessage | None = None) -> BatchPending:
    """Answer with the address of the result, and those of its progress."""
    identity, session_id = identity_of(start), start.session_id
    session = f"/v1/sessions/{session_id}"
    return BatchPending(
        interaction_id=session_id, tenant_id=start.tenant_id, user_id=identity and identity.user_id,
        account_id=identity and identity.account_id, result_url=result_url(session_id),
        status_url=f"/api{session}/status/stream", transcript_url=f"{session}/transcript",
        events_url=f"{session}/events", status=status,
    )  # fmt: skip


def result_url(session_id: str) -> str:
    """Make the address of a recording's result."""
    return f"/batch/{session_id}"


def _segment(final: ListedFinal) -> Segment:
    return Segment(
        utterance=final.utterance, start=final.start, end=final.end, text=final.text, speaker=final.speaker,
        channel=final.channel, confidence=final.confidence, language=final.language, words=final.words,
    )  # fmt: skip


def _log(start: SessionStarted, message: str, **more: object) -> None:
    logger.info(message, extra={"interaction_id": start.session_id, "tenant_id": start.tenant_id, **more})
