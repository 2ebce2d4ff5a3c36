"""``/live``: audio by plain requests, for clients without WebSockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Scope
from edge.contract.operations import JSON, SESSION_ID, Answer, Body, Operation, Parameter, principal_of
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.ingest import formats, live_types, session_append
from edge.ingest.bodies import whole_body
from edge.ingest.formats import HEAD_BYTES
from edge.ingest.live_types import LiveResults, LiveStarted, LiveStatus, Mode, StartOptions, Taken, urls_of
from edge.ingest.one_shot import record
from edge.ingest.result_waiter import ResultWaiter
from edge.ingest.upload_reader import FORM_BYTES, HELD_BYTES, SILENCE_S, UploadReader, both
from edge.session import parameters
from edge.views.health import json_response
from eventlog.events import CONTAINER
from eventlog.log import LogUnavailableError
from eventlog.readmodel import views
from eventlog.telemetry import heartbeats

OPENING = (
    errors.INVALID_SAMPLE_RATE, errors.INVALID_ENCODING, errors.INVALID_CHANNELS, errors.INVALID_LANGUAGE, errors.INVALID_HANGOVER,
    errors.INVALID_REQUEST, errors.SESSION_LIMIT_EXCEEDED, errors.GOING_AWAY, errors.MEMORY_FULL,
)  # fmt: skip
"""What may be wrong with a request that opens a session."""

RECORDING = (*OPENING, errors.TOO_LARGE, errors.INVALID_AUDIO, errors.UNKNOWN_SESSION, errors.QUARANTINED)
"""As well, with one that brings a whole recording."""

CHUNK = (
    errors.INVALID_REQUEST, errors.INVALID_QUERY, errors.TOO_LARGE, errors.UNKNOWN_SESSION, errors.TRANSPORT_MISMATCH,
    errors.SESSION_ENDED, errors.SESSION_TOO_LONG, errors.INVALID_OFFSET, errors.SESSION_LIMIT_EXCEEDED,
    errors.MEMORY_FULL,
)  # fmt: skip
"""What may be wrong with one that brings a chunk."""

OFFSET = (
    Parameter(
        "offset", "query", {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
        "Where the chunk begins in the session's bytes; so a retry is harmless.",
    ),
    Parameter("Content-Range", "header", {"type": "string", "pattern": r"^bytes \d{1,15}-\d{1,15}/(\*|\d{1,15})$"},
              "As `offset`, in words of HTTP: `bytes 0-31999/*`."),
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
                [Answer(200, "All that can be said.", {JSON: LiveResults}), live_types.NOT_YET],
                [
                    Parameter("session_id", "query", {"type": "string", "format": "uuid"}, "The session to join."),
                    *live_types.OPTIONS, *OFFSET,
                ],
                live_types.recording("audio_file", {"session_id": {"type": "string", "format": "uuid"}}),
                [*RECORDING, *CHUNK],
                "Without `session_id` the request stands alone. With it the chunk joins that session, and the answer "
                "holds the finals so far and the open utterance, marked `provisional`.",
            ),
            Operation(
                "POST", "/live/start", "live_start", "Live", "Open a session that takes its audio by requests.",
                self.start, Scope.INGEST, [Answer(201, "It is open.", {JSON: LiveStarted})], live_types.OPTIONS,
                Body({JSON: StartOptions}, "What the query may say as well.", required=False), OPENING,
            ),
            Operation(
                "POST", "/live/{session_id}/audio", "live_audio", "Live", "Append a chunk.", self.audio, Scope.INGEST,
                [Answer(200, "It is durable.", {JSON: Taken})], [SESSION_ID, *OFFSET],
                live_types.recording("audio_file"), CHUNK,
            ),
            Operation(
                "GET", "/live/{session_id}/results", "live_results", "Live", "The finals so far.", self.results,
                Scope.READ, [Answer(200, "They.", {JSON: LiveResults})], [SESSION_ID],
                errors=[errors.UNKNOWN_SESSION],
            ),
            Operation(
                "POST", "/live/{session_id}/stop", "live_stop", "Live", "End a session; twice is harmless.",
                self.stop, Scope.INGEST,
                [Answer(200, "The stitched transcript.", {JSON: LiveResults}), live_types.NOT_YET], [SESSION_ID],
                errors=[errors.UNKNOWN_SESSION, errors.TRANSPORT_MISMATCH, errors.INVALID_AUDIO, errors.QUARANTINED],
            ),
            Operation(
                "GET", "/live/status", "live_status", "Live", "What this way in can do now.", self.status, None,
                [Answer(200, "That.", {JSON: LiveStatus})],
            ),
        )  # fmt: skip

    async def transcribe(self, request: Request) -> Response:
        """See `operations`."""
        core, principal = self._core, principal_of(request)
        hold_bytes = HELD_BYTES if "session_id" in request.query_params else HEAD_BYTES
        incoming = await UploadReader(request, core.settings.max_upload_bytes).begin(hold_bytes=hold_bytes)
        session_id = incoming.options.get("session_id")
        if session_id is None:
            recorded = await record(core, incoming, principal)
            return _told(live_types.ended(recorded.session_id, recorded.document))
        joined = await session_append.join(core, principal, session_id)
        so_far = await session_append.all_so_far(core, joined, incoming, session_append.offset_of(request, incoming))
        return _told(live_types.so_far(joined.keys.session_id, so_far))

    async def start(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        if core.draining:
            raise ApiError(errors.GOING_AWAY, "this replica shuts down")
        asked = {name: value for name, value in request.query_params.items() if name in formats.OPTIONS}
        asked = both(asked, await _options(request))
        asked.setdefault("encoding", CONTAINER)
        wanted = parameters.parse(urlencode(asked).encode())._replace(shared=True)
        session = await core.opener.open(wanted, principal_of(request))
        start = session.start
        started = LiveStarted(
            start.session_id, start.encoding, start.sample_rate_hz, start.channels, start.language,
            urls_of(start.session_id),
        )  # fmt: skip
        return json_response(started, 201)

    async def audio(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        joined = await session_append.join(core, principal_of(request), request.path_params["session_id"])
        incoming = await UploadReader(request, core.settings.max_upload_bytes).begin(hold_bytes=HELD_BYTES)
        end = await session_append.add_chunk(core, joined, incoming, session_append.offset_of(request, incoming))
        return json_response(Taken(joined.keys.session_id, end, joined.tail.end_bytes))

    async def results(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        found = await core.access.session(principal_of(request), request.path_params["session_id"])
        transcript = await views.read_transcript(core.server, found.keys.run())
        return json_response(live_types.finals(found.keys.session_id, transcript))

    async def stop(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        joined = await session_append.shared(core, principal_of(request), request.path_params["session_id"])
        with ResultWaiter(core, joined.keys.run()) as outcome:
            if await joined.tail.seal("stop"):
                core.metrics.ended("stop")
            await core.release(joined.reservation)
            document = await outcome.document(core.settings.session_end_timeout_s)
        return _told(live_types.ended(joined.keys.session_id, document))

    async def status(self, request: Request) -> Response:
        """See `operations`."""
        core = self._core
        mode: Mode = "draining" if core.draining else "serving"
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
                # Whatever a request needs is in Redis: without it no replica can stand in for another.
                replica_friendly=mode != "unavailable", replicas=replicas, active_sessions=active,
                endpoints_available=[f"{one.method} {one.path}" for one in operations if one.group == "Live"],
            )
        )  # fmt: skip


async def _options(request: Request) -> Mapping[str, str]:
    """What the JSON body asks for."""
    body = await whole_body(request, FORM_BYTES, SILENCE_S)
    if not body:
        return {}
    try:
        options = msgspec.json.decode(body, type=StartOptions)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(errors.INVALID_REQUEST, f"the body must be a JSON object of options: {error}") from None
    return {name: str(value) for name, value in msgspec.structs.asdict(options).items() if value is not None}


def _told(results: LiveResults) -> Response:
    return json_response(results, 200 if results.complete else 202)
