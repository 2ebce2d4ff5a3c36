"""``/live``: audio by HTTP requests, for clients without WebSockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Scope
from edge.contract.operations import JSON, SESSION_ID, Answer, Body, Operation, Parameter, json_response, principal_of
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.ingest import live_types, session_append
from edge.ingest.formats import OPTIONS, SNIFFED_BYTES
from edge.ingest.live_types import (
    ChunkAppended,
    LiveResults,
    LiveStarted,
    LiveStatus,
    Mode,
    OptionsChangedAt,
    StartOptions,
    urls_of,
)
from edge.ingest.one_shot import transcribe
from edge.ingest.result_waiter import ResultWaiter
from edge.ingest.upload_reader import BUFFERED_BYTES, FORM_BYTES, SILENCE_S, UploadReader, merge_options
from edge.server.request_body import read_body
from edge.session import parameters
from edge.session.options import OptionsChange, options_of, read_change
from eventlog.events import CONTAINER
from eventlog.log import LogUnavailableError
from eventlog.readmodel import views
from eventlog.work import heartbeats

OPENING = (
    errors.INVALID_SAMPLE_RATE, errors.INVALID_ENCODING, errors.INVALID_CHANNELS, errors.INVALID_TRACK,
    errors.INVALID_LANGUAGE, errors.INVALID_HANGOVER, errors.INVALID_OPTION, errors.UNSUPPORTED_LANGUAGE,
    errors.UNSUPPORTED_MODEL,
    errors.INVALID_REQUEST, errors.SESSION_LIMIT_EXCEEDED, errors.GOING_AWAY, errors.MEMORY_FULL,
)  # fmt: skip
"""Errors of a request that opens a session."""

RECORDING = (*OPENING, errors.TOO_LARGE, errors.INVALID_AUDIO, errors.UNKNOWN_SESSION, errors.QUARANTINED)
"""Errors of a request with a whole recording."""

CHUNK = (
    errors.INVALID_REQUEST, errors.INVALID_QUERY, errors.TOO_LARGE, errors.UNKNOWN_SESSION, errors.TRANSPORT_MISMATCH,
    errors.SESSION_ENDED, errors.SESSION_TOO_LONG, errors.INVALID_OFFSET, errors.SESSION_LIMIT_EXCEEDED,
    errors.MEMORY_FULL,
)  # fmt: skip
"""Errors of a request with a chunk."""

OFFSET = (
    Parameter(
        "offset", "query", {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
        "Where the chunk begins in the session's bytes, so that a retry appends nothing twice.",
    ),
    Parameter("Content-Range", "header", {"type": "string", "pattern": r"^bytes \d{1,15}-\d{1,15}/(\*|\d{1,15})$"},
              "As `offset`, in the form of HTTP: `bytes 0-31999/*`."),
)  # fmt: skip


class Live:
    """Every operation under ``/live``."""

    def __init__(self, core: EdgeCore) -> None:
        """Serve by `core`."""
        self._core = core

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "POST", "/live/transcribe", "live_transcribe", "Live", "Transcribe a recording, or a session's chunk.",
                self.transcribe, Scope.INGEST,
                [Answer(200, "The complete results.", {JSON: LiveResults}), live_types.INCOMPLETE],
                [
                    Parameter("session_id", "query", {"type": "string", "format": "uuid"}, "The session to join."),
                    *live_types.OPTIONS, *OFFSET,
                ],
                live_types.recording_body("audio_file", {"session_id": {"type": "string", "format": "uuid"}}),
                [*RECORDING, *CHUNK],
                "Without `session_id` the body is a whole recording. With it the body is a chunk of that session, and "
                "the answer has the finals so far and the open utterance, marked `provisional`.",
            ),
            Operation(
                "POST", "/live/start", "live_start", "Live", "Open a session that receives its audio by requests.",
                self.start, Scope.INGEST, [Answer(201, "It is open.", {JSON: LiveStarted})], live_types.OPTIONS,
                Body({JSON: StartOptions}, "The options, in place of the query string.", required=False), OPENING,
            ),
            Operation(
                "POST", "/live/{session_id}/audio", "live_audio", "Live", "Append a chunk.", self.audio, Scope.INGEST,
                [Answer(200, "The chunk is durable.", {JSON: ChunkAppended})], [SESSION_ID, *OFFSET],
                live_types.recording_body("audio_file"), CHUNK,
            ),
            Operation(
                "PATCH", "/live/{session_id}/options", "live_options", "Live", "Change options in mid-session.",
                self.options, Scope.INGEST,
                [Answer(200, "They are changed.", {JSON: OptionsChangedAt})], [SESSION_ID],
                Body({JSON: OptionsChange}, "The options to change."),
                [
                    errors.INVALID_CONFIGURATION, errors.UNKNOWN_SESSION, errors.TRANSPORT_MISMATCH,
                    errors.SESSION_ENDED, errors.SESSION_LIMIT_EXCEEDED,
                ],
                "The open utterance keeps those that it began with.",
            ),
            Operation(
                "GET", "/live/{session_id}/results", "live_results", "Live", "The finals so far.", self.results,
                Scope.READ, [Answer(200, "The finals.", {JSON: LiveResults})], [SESSION_ID],
                errors=[errors.UNKNOWN_SESSION],
            ),
            Operation(
                "POST", "/live/{session_id}/stop", "live_stop", "Live", "End a session; repeating it is harmless.",
                self.stop, Scope.INGEST,
                [Answer(200, "The stitched transcript.", {JSON: LiveResults}), live_types.INCOMPLETE], [SESSION_ID],
                errors=[errors.UNKNOWN_SESSION, errors.TRANSPORT_MISMATCH, *live_types.FAILURES],
            ),
            Operation(
                "GET", "/live/status", "live_status", "Live", "The state of this API.", self.status, None,
                [Answer(200, "The state.", {JSON: LiveStatus})],
            ),
        )  # fmt: skip

    async def transcribe(self, request: Request) -> Response:
        """See `operations`."""
        core, principal = self._core, principal_of(request)
        head_bytes = BUFFERED_BYTES if "session_id" in request.query_params else SNIFFED_BYTES
        reader = await UploadReader(request, core.settings.max_upload_bytes).read_head(head_bytes=head_bytes)
        session_id = reader.options.get("session_id")
        if session_id is None:
            transcribed = await transcribe(core, reader, principal)
            return _answer(live_types.results_of_ended(transcribed.session_id, transcribed.document))
        session = await session_append.find(core, principal, session_id)
        await session.begin()
        current = await session.append_and_wait(reader, session_append.chunk_offset(request, reader))
        return _answer(live_types.results_of_open(session.keys.session_id, current))

    async def start(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        if core.is_draining:
            raise ApiError(errors.GOING_AWAY, "this replica is shutting down")
        query = parameters.collect(one for one in request.query_params.multi_items() if one[0] in OPTIONS)
        options = merge_options(query, await _read_options(request))
        options.setdefault("encoding", CONTAINER)
        wanted = parameters.parse_options(options)._replace(shared=True)
        session = await core.opener.open(wanted, principal_of(request))
        start = session.start
        started = LiveStarted(
            session_id=start.session_id, encoding=start.encoding, sample_rate=start.sample_rate_hz,
            channels=start.channels, language=start.language, urls=urls_of(start.session_id),
            options=options_of(start),
        )  # fmt: skip
        return json_response(started, 201)

    async def audio(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        session = await session_append.find(core, principal_of(request), request.path_params["session_id"])
        await session.begin()
        reader = await UploadReader(request, core.settings.max_upload_bytes).read_head(head_bytes=BUFFERED_BYTES)
        end = await session.append_chunk(reader, session_append.chunk_offset(request, reader))
        return json_response(ChunkAppended(session.keys.session_id, end, session.end_bytes))

    async def options(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        session = await session_append.find(core, principal_of(request), request.path_params["session_id"])
        try:
            changed = read_change(await read_body(request, FORM_BYTES, SILENCE_S))
        except ValueError as error:
            raise ApiError(errors.INVALID_CONFIGURATION, str(error)) from None
        core.abilities.check_change(changed, session.start.model)
        await session.begin()
        offset = await session.change_options(changed)
        return json_response(OptionsChangedAt(session_id=session.keys.session_id, offset=offset))

    async def results(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        found = await core.access.find_session(principal_of(request), request.path_params["session_id"])
        transcript = await views.read_transcript(core.server, found.keys.run())
        return json_response(live_types.results_of_finals(found.keys.session_id, transcript))

    async def stop(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        session = await session_append.find(core, principal_of(request), request.path_params["session_id"])
        with ResultWaiter(core, session.keys.run()) as waiter:
            await session.end("stop")
            document = await waiter.wait_for_document(core.settings.session_end_timeout_s)
        return _answer(live_types.results_of_ended(session.keys.session_id, document))

    async def status(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        mode: Mode = "draining" if core.is_draining else "serving"
        active, replicas = None, 0
        try:
            active = await core.reservations.held()
            stale_ms = core.settings.ready_stale_s * 1000
            beats = await heartbeats.read_all(core.server)
            replicas = sum(beat.role == "edge" and beat.age_ms <= stale_ms for beat in beats)
        except LogUnavailableError:
            mode = "unavailable"
        operations: Sequence[Operation] = request.app.state.operations
        return json_response(
            LiveStatus(
                mode=mode, version=core.settings.version, engine=core.settings.engine,
                # All state of a session is in Redis: without Redis no replica can serve another one's sessions.
                replica_friendly=mode != "unavailable", replicas=replicas, active_sessions=active,
                endpoints_available=[f"{one.method} {one.path}" for one in operations if one.group == "Live"],
            )
        )  # fmt: skip


async def _read_options(request: Request) -> Mapping[str, str]:
    """Read the options of the JSON body."""
    body = await read_body(request, FORM_BYTES, SILENCE_S)
    if not body:
        return {}
    try:
        options = msgspec.json.decode(body, type=StartOptions)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(errors.INVALID_REQUEST, f"the body must be a JSON object of options: {error}") from None
    given = {name: value for name, value in msgspec.structs.asdict(options).items() if value is not None}
    terms: list[str] = given.pop("terms", [])
    return parameters.collect([
        *((name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in given.items()),
        *((parameters.REPEATED, term) for term in terms),
    ])  # fmt: skip


def _answer(results: LiveResults) -> Response:
    return json_response(results, 200 if results.complete else 202)
