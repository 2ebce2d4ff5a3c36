"""The Starlette application of an edge."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute

from edge import errors
from edge.auth.access import Authenticator, NoAuthentication
from edge.contract.operations import Endpoints, json_response, routes
from edge.contract.specifications import Specifications
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.ingest.batch import Batches
from edge.ingest.live import Live
from edge.ingest.recordings import Recordings
from edge.metrics import RequestTimer
from edge.metrics_endpoint import EdgeCollector, MetricsEndpoint
from edge.server.request_body import LingeringClose, has_unread_body
from edge.settings import EdgeSettings
from edge.views.diagnostics import Diagnostics
from edge.views.health import Health
from edge.views.session_events import Events
from edge.views.sessions import Sessions
from edge.views.tickets import Tickets
from edge.views.transcripts import Transcripts
from edge.views.webhooks import Webhooks
from edge.websocket.endpoint import StreamEndpoint
from eventlog.log import LogUnavailableError
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server

STREAM_PATH = "/v1/transcribe/stream"

RETRIED = frozenset({429, 503})
"""Statuses after which the same request may be made again, a second later unless the error says how much later."""

_BY_STATUS = {404: errors.NOT_FOUND, 405: errors.METHOD_NOT_ALLOWED}

GROUPS: Sequence[Callable[[EdgeCore], Endpoints]] = (
    Health, Diagnostics, MetricsEndpoint, Sessions, Transcripts, Tickets, Live, Recordings, Batches, Events, Webhooks,
)  # fmt: skip
"""Every group of HTTP operations; a new one is added here."""


def create_app(
    settings: EdgeSettings, server: Server, log: RedisLog, authenticator: Authenticator | None = None,
    now: Callable[[], float] = time.time,
) -> Starlette:  # fmt: skip
    """Build the application; `app.state.core` is its `EdgeCore`. It doesn't close `server`."""
    core = EdgeCore(settings, server, log, authenticator, now)
    server.meter.add_reader(EdgeCollector(core))
    operations = [operation for group in GROUPS for operation in group(core).operations()]
    secured = not isinstance(authenticator or NoAuthentication(), NoAuthentication)
    operations += Specifications(settings.version, STREAM_PATH, tuple(operations), secured=secured).operations()
    app = Starlette(
        routes=[WebSocketRoute(STREAM_PATH, StreamEndpoint(core)), *routes(operations, core.access)],
        exception_handlers=dict.fromkeys((ApiError, HTTPException, LogUnavailableError, Exception), _answer_error),
        middleware=[Middleware(RequestTimer, metrics=core.metrics), *_cors(settings)],
        lifespan=_lifespan(core),
    )
    app.state.core = core
    app.state.operations = tuple(operations)
    return app


def _cors(settings: EdgeSettings) -> list[Middleware]:
    """Let the pages of the allowed origins read answers; no cookies exist that could be sent along."""
    if not settings.allowed_origins:
        return []
    return [
        Middleware(
            CORSMiddleware, allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"], expose_headers=["location", "retry-after", "preference-applied"],
        )
    ]  # fmt: skip


def _lifespan(core: EdgeCore) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def running(_app: Starlette) -> AsyncIterator[None]:
        await core.start()
        try:
            yield
        finally:
            await core.stop()

    return running


async def _answer_error(request: Request, error: Exception) -> Response:
    """Count an error, and answer with its problem detail."""
    status, headers = 0, dict[str, str]()
    match error:
        case ApiError():
            error_code, message = error.error, error.message
        case HTTPException():
            error_code, message = _BY_STATUS.get(error.status_code, errors.INVALID_QUERY), error.detail
            status, headers = error.status_code, dict(error.headers or {})
        case LogUnavailableError():
            error_code, message = errors.LOG_UNAVAILABLE, "Redis cannot be reached at the moment"
        case _:
            error_code, message = errors.INTERNAL_ERROR, "the server has a defect; its log has the details"
    core: EdgeCore = request.app.state.core
    core.metrics.count_error(error_code)
    body = errors.problem(error_code, message, status)
    if body.status in RETRIED:
        headers.setdefault("retry-after", str(getattr(error, "retry_after_s", None) or 1))
    if body.status == errors.UNAUTHORIZED.status:
        headers.setdefault("www-authenticate", "Bearer")
    answer = json_response(body, body.status, media_type=errors.PROBLEM_JSON)
    answer.headers.update(headers)
    return LingeringClose(answer) if isinstance(error, ApiError) and has_unread_body(request) else answer
