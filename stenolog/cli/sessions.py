"""`stenolog sessions`: the sessions that a running edge lists, or that Redis holds."""

import asyncio
import http
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import click
import msgspec
from click.core import ParameterSource
from rich.table import Table
from rich.text import Text

from eventlog.readmodel.listings import list_sessions
from eventlog.readmodel.runs import RunView, merge_view, read_runs
from eventlog.readmodel.views import SessionView
from stenolog.cli.options import EDGE_URL, ExampleCommand, options
from stenolog.cli.output import clock, local_time, output_console, print_json
from stenolog.client.edge import ClientError, UnreachableError, get
from stenolog.errors import UserError
from stenolog.settings import Settings, load
from stenolog.wiring import connected, find_redis

PAGE_SESSIONS = 1000
"""Asked of an edge at a time: as many as it gives."""

_COLUMNS = ("session", "state", "tenant", "opened", "age", "audio s", "lag s", "finals", "language", "engine", "ended")
_COLOURS = {"ACTIVE": "green", "CLOSING": "yellow", "CREATED": "cyan"}


class SessionRuns(SessionView, frozen=True, kw_only=True):
    """A session with its runs."""

    runs: list[RunView]


class Query(NamedTuple):
    """Which sessions, and whether with their runs."""

    limit: int
    state: str | None
    tenant: str | None
    runs: bool


class _Page(msgspec.Struct):
    """An edge's answer."""

    sessions: list[SessionView]
    next_cursor: str | None


@click.command(cls=ExampleCommand, epilog=(
    "stenolog sessions\n"
    "stenolog sessions --state active --tenant acme\n"
    "stenolog sessions --url https://stt.example.com --json | jq '.[].session_id'\n"
    "stenolog sessions --runs                 with the replays of each, and which run readers receive"
))
@options("url-or-redis", "token", "data")
@click.option("--state", type=click.Choice(["created", "active", "closing", "closed"]), help="Only these.")
@click.option("--tenant", metavar="TENANT", help="Only this tenant's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most sessions listed.")
@click.option("--runs", is_flag=True, help="Each session's runs too.")
@options("json")
@click.pass_context
def sessions(
    context: click.Context, /, *, url: str | None, token: str, data_dir: str | None, as_json: bool,
    **query: Any,  # noqa: ANN401 - options have many types
) -> None:  # fmt: skip
    """List sessions, open ones first: state, tenant, age, audio, lag, finals.

    They come from the edge at --url. Without --url they come from Redis if --data is given, else from the edge at
    STENOLOG_URL if that is set, else from the Redis of REDIS_URL or of a running `stenolog up`, else from the edge at
    http://127.0.0.1:8000.
    """
    is_chosen = context.get_parameter_source("url") is ParameterSource.COMMANDLINE
    if url is not None and (is_chosen or data_dir is None):
        found = _from_edge(url, token, Query(**query))
    else:
        settings = load(data_dir=data_dir)
        if data_dir is not None or find_redis(settings) is not None:
            found = asyncio.run(_from_redis(settings, Query(**query)))
        else:
            found = _from_default_edge(token, Query(**query))
    if as_json:
        print_json(found)
    else:
        output_console().print(_table(found))


def _from_default_edge(token: str, query: Query) -> Sequence[SessionView]:
    try:
        return _from_edge(EDGE_URL, token, query)
    except UnreachableError as error:
        raise UserError(
            f"no edge answers at {EDGE_URL}, and no Redis is known: name an edge with --url or STENOLOG_URL, set "
            "REDIS_URL, or start `stenolog up` and name its directory with --data"
        ) from error


def _from_edge(url: str, token: str, query: Query) -> Sequence[SessionView]:
    """The sessions that the edge lists, page by page.

    Raises:
        ClientError: if the edge refuses, or can't be reached.
    """
    views: list[SessionView] = []
    filters = {"state": query.state, "tenant": query.tenant}
    cursor: dict[str, str] = {}
    while True:
        parameters = {**filters, **cursor, "limit": min(query.limit - len(views), PAGE_SESSIONS)}
        given = {name: value for name, value in parameters.items() if value is not None}
        page = msgspec.json.decode(get(url, "/v1/sessions", token=token, parameters=given), type=_Page)
        views += page.sessions
        if page.next_cursor is None or len(views) >= query.limit:
            break
        cursor = {"cursor": page.next_cursor}
    if not query.runs:
        return views
    details = (_detail(url, token, view.session_id) for view in views)
    return [detail for detail in details if detail is not None]


def _detail(url: str, token: str, session_id: str) -> SessionRuns | None:
    """A session with its runs; None if it has expired, or was deleted, since it was listed."""
    try:
        body = get(url, f"/v1/sessions/{quote(session_id, safe='')}", token=token)
    except ClientError as error:
        if error.status == http.HTTPStatus.NOT_FOUND:
            return None
        raise
    return msgspec.json.decode(body, type=SessionRuns)


async def _from_redis(settings: Settings, query: Query) -> Sequence[SessionView]:
    state = query.state and query.state.upper()
    async with connected(settings) as server:
        views = (await list_sessions(server, state=state, tenant_id=query.tenant, limit=query.limit)).views
        if not query.runs:
            return views
        runs = await read_runs(server, [server.keys.of(view.session_id) for view in views])
        return [
            SessionRuns(**msgspec.structs.asdict(view), runs=merge_view(of_session, view))
            for view, of_session in zip(views, runs, strict=True)
        ]


def _table(found: Sequence[SessionView]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for view in found:
        numbers = (f"{view.audio_seconds:.1f}", f"{view.lag_seconds:.1f}", str(view.finals))
        table.add_row(
            view.session_id, view.state.lower(), view.tenant_id, local_time(view.opened_ms), clock(view.age_s),
            *numbers, view.language, view.engine, view.reason or "", style=_COLOURS.get(view.state, "dim"),
        )  # fmt: skip
        for one in view.runs if isinstance(view, SessionRuns) else ():
            table.add_row(
                Text(f"  {'*' if one.promoted else ' '} {one.run}"), one.state.lower(), "", local_time(one.opened_ms),
                "", f"{one.audio_seconds:.1f}", "", str(one.finals), one.language, one.engine, one.reason or "",
                style="bold" if one.promoted else "dim",
            )  # fmt: skip
    return table
