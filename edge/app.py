"""The Starlette application of an edge."""

from __future__ import annotations

import contextlib
import logging
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
from edge.errors import ApiError, ErrorCode
from edge.ingest.batch import Batches
from edge.ingest.live import Live
from edge.ingest.recordings import Recordings
from edge.metrics import Metrics, Observed
from edge.server.lingering_close import LingeringClose, leaves_unread
from edge.settings import EdgeSettings
from edge.streams.session_events import Events
from edge.views.diagnostics import Diagnostics
from edge.views.health import Health
from edge.views.sessions import Sessions
from edge.views.tickets import Tickets
from edge.views.transcripts import Transcripts
from edge.views.webhooks import Webhooks
from edge.websocket.endpoint import StreamEndpoint
from eventlog.log import LogUnavailableError
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server

logger = logging.getLogger(__name__)

STREAM_PATH = "/v1/transcribe/stream"

RETRIED = frozenset({429, 503})
"""Statuses after which the same request may be made again, a second later unless the error says how much later."""

_BY_STATUS = {404: errors.NOT_FOUND, 405: errors.METHOD_NOT_ALLOWED}


GROUPS: Sequence[Callable[[EdgeCore], Endpoints]] = (
    Health, Diagnostics, Metrics, Sessions, Transcripts, Tickets, Live, Recordings, Batches, Events, Webhooks,
)  # fmt: skip
"""Every group of HTTP operations; a new one is added here."""


def create_app(
    settings: EdgeSettings, server: Server, log: RedisLog, authenticator: Authenticator | None = None,
    now: Callable[[], float] = time.time,
) -> Starlette:  # fmt: skip
    """The application; `app.state.core` is its `EdgeCore`. It doesn't close `server`."""
    core = EdgeCore(settings, server, log, authenticator, now)
    operations = [operation for group in GROUPS for operation in group(core).operations()]
    secured = not isinstance(authenticator or NoAuthentication(), NoAuthentication)
    operations += Specifications(settings.version, STREAM_PATH, tuple(operations), secured=secured).operations()
    app = Starlette(
        routes=[
            WebSocketRoute(STREAM_PATH, StreamEndpoint(core)),
            *routes(operations, core.access),
        ],
        exception_handlers={
            ApiError: _answer_api_error,
            HTTPException: _answer_http_exception,
            LogUnavailableError: _answer_log_unavailable,
            Exception: _answer_defect,
        },
        middleware=[Middleware(Observed, metrics=core.metrics), *_cors(settings)],
        lifespan=_lifespan(core),
    )
    app.state.core = core
    app.state.operations = tuple(operations)
    return app


def _cors(settings: EdgeSettings) -> list[Middleware]:
    """Lets the pages of the allowed origins read answers; there are no cookies that could be sent along."""
    if not settings.allowed_origins:
        return []
    return [
        Middleware(
            CORSMiddleware, allow_origins=settings.allowed_origins, allow_methods=["GET", "POST", "PUT", "DELETE"],
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


def _answer(request: Request, error: ErrorCode, message: str, status: int = 0) -> Response:
    core: EdgeCore = request.app.state.core
    core.metrics.trouble(error)
    body = errors.problem(error, message, status)
    return json_response(body, body.status, media_type=errors.PROBLEM_JSON)


async def _answer_api_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    answer = _answer(request, error.error, error.message)
    if answer.status_code in RETRIED:
        answer.headers["retry-after"] = str(error.retry_after_s or 1)
    if answer.status_code == errors.UNAUTHORIZED.status:
        answer.headers["www-authenticate"] = "Bearer"
    return LingeringClose(answer) if leaves_unread(request) else answer


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    answer = _answer(request, _BY_STATUS.get(error.status_code, errors.INVALID_QUERY), error.detail, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _answer_log_unavailable(request: Request, _error: Exception) -> Response:
    answer = _answer(request, errors.LOG_UNAVAILABLE, "Redis cannot be reached at the moment")
    answer.headers["retry-after"] = "1"
    return answer


async def _answer_defect(request: Request, _error: Exception) -> Response:
    return _answer(request, errors.INTERNAL_ERROR, "the server has a defect; its log has the details")


