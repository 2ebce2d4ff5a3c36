"""The edge's HTTP operations as data, from which routes, authorisation and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from edge.auth.access import Access, Principal, Scope
from edge.errors import ErrorCode

Handler = Callable[[Request], Awaitable[Response]]

JSON, TEXT = "application/json", "text/plain"


class Parameter(NamedTuple):
    """A parameter of an operation; those of the path are always required."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Mapping[str, Any]
    """JSON Schema."""
    description: str
    required: bool = False


class Body(NamedTuple):
    """The body of an operation's request."""

    kinds: Mapping[str, Any]
    """By media type: a msgspec type, or a mapping that is a JSON Schema itself."""
    description: str
    required: bool = True


class Answer(NamedTuple):
    """One of an operation's answers; errors are listed apart."""

    status: int
    description: str
    kinds: Mapping[str, Any] = {}
    """By media type: a msgspec type, or a mapping that is a JSON Schema itself; empty for no body."""
    headers: Mapping[str, str] = {}
    """By name: a description of the value."""


class Operation(NamedTuple):
    """One method of one path."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    name: str
    """The document's operationId."""
    group: str
    summary: str
    handler: Handler
    scope: Scope | None
    """What the caller's token must allow; None for an operation without authentication."""
    answers: Sequence[Answer]
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    errors: Sequence[ErrorCode] = ()
    """Beside those of every operation: see `COMMON_ERRORS` in `edge.contract.openapi`."""
    description: str = ""
    accepts_ticket: bool = False
    """Its handler authorises by `Access.authorize_subscriber`, which accepts ``?ticket=`` in place of a token."""


class Endpoints(Protocol):
    """A group of operations."""

    def operations(self) -> Sequence[Operation]:
        """List the group's operations."""
        ...


SESSION_ID = Parameter("session_id", "path", {"type": "string", "format": "uuid"}, "The session's id.", required=True)


def principal_of(request: Request) -> Principal:
    """The authenticated caller; set for every operation with a scope."""
    principal: Principal = request.state.principal
    return principal


def json_response(body: Any, status: int = 200, *, media_type: str = JSON) -> Response:  # noqa: ANN401 - msgspec's choice
    """A JSON answer that no cache keeps."""
    return Response(msgspec.json.encode(body), status, headers={"cache-control": "no-store"}, media_type=media_type)


def routes(operations: Iterable[Operation], access: Access) -> list[Route]:
    """Make one route per path, with the methods of its operations; each is authorised before its handler runs."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [Route(path, _Dispatcher(methods, access), name=path) for path, methods in by_path.items()]


class _Dispatcher:
    """One path's operations.

    It is an ASGI application, so that it receives every method: Starlette would pass a method that this path lacks to
    another path that happens to match, such as ``/v1/sessions/{session_id}`` for ``metrics``.
    """

    def __init__(self, methods: Mapping[str, Operation], access: Access) -> None:
        self._methods = methods
        self._access = access

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        operation = self._methods.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise HTTPException(405, headers={"allow": ", ".join(self._methods)})
        request.scope["operation"] = operation.name  # for the metrics
        if operation.scope is not None and not operation.accepts_ticket:
            request.state.principal = await self._access.authorize(request, operation.scope)
        return await operation.handler(request)
