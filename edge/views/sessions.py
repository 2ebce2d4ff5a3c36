"""Sessions over HTTP: their list, their state, numbers over all of them, and their deletion."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Principal, Scope, unknown_session
from edge.contract.operations import JSON, SESSION_ID, Answer, Operation, Parameter, json_response, principal_of
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.views.answer_cache import AnswerCache
from eventlog.readmodel import views
from eventlog.readmodel.listings import STATES, Cursor, Metrics, list_sessions, read_metrics
from eventlog.readmodel.runs import RunView, merge_view, read_runs
from eventlog.readmodel.views import SessionView, view_of_start
from eventlog.work.erasure import erase

logger = logging.getLogger(__name__)

LISTED = 100
"""Sessions in one answer unless asked otherwise: some 30 kB."""

MAX_LISTED = 1000
"""Sessions in one answer: some 300 kB."""

_MAX_DIGITS = 9  # far above the bound, and quick to convert
_MAX_CHARACTERS = 256  # of a cursor, which has some 80, and of a tenant's id

MAX_CACHED_TENANTS = 1000
"""Tenants whose metrics are cached: some 500 bytes each."""

MAX_CACHED_PAGES = 32
"""Pages of listings that are cached: 10 MB at worst. Several dashboards request the same ones again and again."""


class _Query(NamedTuple):
    """Which sessions a page of the listing, or metrics, cover."""

    tenant_id: str | None
    """None for all."""
    state: str | None = None
    limit: int = LISTED
    after: Cursor | None = None


class Listing(msgspec.Struct):
    """The answer of ``/v1/sessions``."""

    sessions: list[SessionView]
    next_cursor: str | None
    """For the next page; null on the last one."""


class SessionDetail(SessionView, frozen=True, kw_only=True):
    """The answer of ``/v1/sessions/{session_id}``: the promoted run's state and numbers, and the session's runs."""

    runs: list[RunView]
    """The live one first, then its replays, the oldest first."""


class Sessions:
    """``/v1/sessions`` and below, transcripts aside."""

    def __init__(self, core: EdgeCore) -> None:
        """Read from the server of `core`, and erase there."""
        self._server = core.server
        self._confirming = core.log.durable_calls
        self._access = core.access
        self._pages = AnswerCache(self._read_page, max_keys=MAX_CACHED_PAGES)
        self._metrics = AnswerCache(self._read_metrics, max_keys=MAX_CACHED_TENANTS)

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        tenant = _text("tenant", "The tenant, for operators only; other callers have one tenant.")
        return (
            Operation(
                "GET", "/v1/sessions", "list_sessions", "Sessions",
                "The sessions: open ones first, each kind the latest first.",
                self.sessions, Scope.READ, [Answer(200, "Some of the sessions.", {JSON: Listing})],
                [
                    Parameter("state", "query", {"type": "string", "enum": [*map(str.lower, STATES)]}, "Only these."),
                    Parameter(
                        "limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED}, "Most to list."
                    ),
                    _text("cursor", "`next_cursor` of the page before."),
                    tenant,
                ],
                errors=[errors.INVALID_QUERY, errors.FORBIDDEN],
            ),
            # Before the one with a session's id, which would match it too.
            Operation(
                "GET", "/v1/sessions/metrics", "get_session_metrics", "Sessions",
                "Numbers over all sessions, about a second old.", self.metrics, Scope.READ,
                [Answer(200, "The numbers.", {JSON: Metrics})], [tenant],
                errors=[errors.INVALID_QUERY, errors.FORBIDDEN],
            ),
            Operation(
                "GET", "/v1/sessions/{session_id}", "get_session", "Sessions",
                "One session's state and numbers, and its runs.",
                self.session, Scope.READ, [Answer(200, "The session.", {JSON: SessionDetail})],
                [SESSION_ID], errors=[errors.UNKNOWN_SESSION],
            ),
            Operation(
                "DELETE", "/v1/sessions/{session_id}", "delete_session", "Sessions",
                "End the session if it is open, and erase all its data.",
                self.delete, Scope.INGEST, [Answer(204, "Only its id remains.")],
                [SESSION_ID], errors=[errors.UNKNOWN_SESSION],
            ),
        )  # fmt: skip

    async def sessions(self, request: Request) -> Response:
        """A page of the sessions that the principal may see."""
        query = request.query_params
        state = query.get("state")
        if state is not None and state.upper() not in STATES:
            raise ApiError(errors.INVALID_QUERY, f"state must be one of {', '.join(STATES).lower()}")
        tenant_id = _tenant(principal_of(request), query)
        wanted = _Query(tenant_id, state and state.upper(), _limit(query), _cursor(query))
        return json_response(await self._pages.get(_key(wanted)))

    async def metrics(self, request: Request) -> Response:
        """Numbers over the sessions that the principal may see."""
        wanted = _Query(_tenant(principal_of(request), request.query_params))
        return json_response(await self._metrics.get(_key(wanted)))

    async def session(self, request: Request) -> Response:
        """One session's state and numbers, and its runs."""
        found = await self._access.find_session(principal_of(request), request.path_params["session_id"])
        run = found.keys.run()
        view = await views.read_view(self._server, run)
        if view is None:  # just opened: its projection has not applied it yet
            view = view_of_start(found.log_position.start, run.run)
        [runs] = await read_runs(self._server, [found.keys])
        return json_response(SessionDetail(**msgspec.structs.asdict(view), runs=merge_view(runs, view)))

    async def delete(self, request: Request) -> Response:
        """End and erase a session; its owner may, and an admin of its tenant."""
        principal = principal_of(request)
        found = await self._access.find_session(principal, request.path_params["session_id"], owner_only=True)
        if not await erase(self._server, found.keys, found.log_position.tenant_id, self._confirming):
            raise unknown_session()  # another call deleted it first
        self._pages.invalidate()
        self._metrics.invalidate()
        logger.info("session erased", extra={"session_id": found.keys.session_id, "subject": principal.subject})
        return Response(status_code=204)

    async def _read_page(self, key: str) -> msgspec.Raw:
        wanted = msgspec.json.decode(key, type=_Query)
        page = await list_sessions(
            self._server, state=wanted.state, tenant_id=wanted.tenant_id, limit=wanted.limit, after=wanted.after
        )
        return msgspec.Raw(msgspec.json.encode(Listing(page.views, page.next and page.next.encoded())))

    async def _read_metrics(self, key: str) -> Metrics:
        return await read_metrics(self._server, msgspec.json.decode(key, type=_Query).tenant_id)


def _key(wanted: _Query) -> str:
    return msgspec.json.encode(wanted).decode()


def _text(name: str, description: str) -> Parameter:
    return Parameter(name, "query", {"type": "string", "maxLength": _MAX_CHARACTERS}, description)


def _tenant(principal: Principal, query: Mapping[str, str]) -> str | None:
    """The tenant whose sessions are requested; None for all."""
    wanted = query.get("tenant")
    if wanted is not None and len(wanted) > _MAX_CHARACTERS:
        raise ApiError(errors.INVALID_QUERY, f"tenant has at most {_MAX_CHARACTERS} characters")
    if principal.any_tenant:
        return wanted
    if wanted not in {None, principal.tenant_id}:
        raise ApiError(errors.FORBIDDEN, "only an operator may see another tenant's sessions")
    return principal.tenant_id


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(LISTED))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:_MAX_DIGITS]) <= MAX_LISTED):
        raise ApiError(errors.INVALID_QUERY, f"limit must be a whole number from 1 to {MAX_LISTED}")
    return int(text)


def _cursor(query: Mapping[str, str]) -> Cursor | None:
    text = query.get("cursor")
    if text is None:
        return None
    try:
        return Cursor.decoded(text[:_MAX_CHARACTERS])
    except ValueError:
        raise ApiError(errors.INVALID_QUERY, "cursor must be the next_cursor of an earlier page") from None
