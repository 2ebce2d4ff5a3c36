"""The Starlette application of an edge."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute

from edge import errors
from edge.access import Authenticator
from edge.core import EdgeCore
from edge.errors import Trouble, WireError
from edge.health import Health, json_response
from edge.operations import Endpoints, routes
from edge.settings import EdgeSettings
from edge.stream import StreamEndpoint
from edge.transcripts import Transcripts
from eventlog.log import LogUnavailableError
from eventlog.redis_log import RedisLog
from eventlog.server import Server

logger = logging.getLogger(__name__)

STREAM_PATH = "/v1/transcribe/stream"

_BY_STATUS = {404: errors.NOT_FOUND, 405: errors.METHOD_NOT_ALLOWED}


GROUPS: Sequence[Callable[[EdgeCore], Endpoints]] = (Health, Transcripts)
"""Every group of HTTP operations; a new one is added here."""


def create_app(
    settings: EdgeSettings, server: Server, log: RedisLog, authenticator: Authenticator | None = None
) -> Starlette:
    """The application; `app.state.core` is its `EdgeCore`. It doesn't close `server`."""
    core = EdgeCore(settings, server, log, authenticator)
    operations = [operation for group in GROUPS for operation in group(core).operations()]
    app = Starlette(
        routes=[
            WebSocketRoute(STREAM_PATH, StreamEndpoint(core)),
            *routes(operations, core.access),
        ],
        exception_handlers={
            WireError: _told,
            HTTPException: _told_http,
            LogUnavailableError: _told_unavailable,
            Exception: _told_defect,
        },
        lifespan=_lifespan(core),
    )
    app.state.core = core
    return app


def _lifespan(core: EdgeCore) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def running(_app: Starlette) -> AsyncIterator[None]:
        await core.start()
        try:
            yield
        finally:
            await core.stop()

    return running


def _answer(trouble: Trouble, message: str, status: int = 0) -> Response:
    body = {"error": {"code": trouble.code, "message": message}}
    return json_response(body, status or trouble.status or 500)


async def _told(_request: Request, error: Exception) -> Response:
    if not isinstance(error, WireError):
        raise error
    return _answer(error.trouble, error.message)


async def _told_http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    answer = _answer(_BY_STATUS.get(error.status_code, errors.BAD_QUERY), error.detail, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _told_unavailable(_request: Request, _error: Exception) -> Response:
    answer = _answer(errors.TRY_AGAIN, "Redis can't be reached now")
    answer.headers["retry-after"] = "1"
    return answer


async def _told_defect(_request: Request, _error: Exception) -> Response:
    return _answer(errors.INTERNAL_ERROR, "a defect of the server; it is logged there")


