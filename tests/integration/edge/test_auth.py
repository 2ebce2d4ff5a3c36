"""Authorisation on a running edge: every operation of the table, the WebSocket, tenants, tickets and expiry."""

import contextlib
import re
import uuid
from collections.abc import AsyncIterator

import httpx2
import pytest

from edge.auth.access import Scope
from edge.contract.operations import Operation
from edge.errors import PROBLEM_JSON
from edge.settings import EdgeSettings
from eventlog import keys as keys_module
from tests.integration.edge.replicas import FRAME_SAMPLES, Replica
from tests.integration.edge.test_resume import resuming
from tests.integration.edge.tokens import NOW_S, Clock, bearer, guarded, token
from tests.support.waiting import eventually_async

EVERY_SCOPE = "ingest read admin"
UNUSED_ID = str(uuid.UUID(int=9, version=4))


@pytest.fixture
def clock() -> Clock:
    """Of the edge under test."""
    return Clock()


@pytest.fixture
async def edge(redis_url: str, clock: Clock) -> AsyncIterator[Replica]:
    """An edge that wants tokens."""
    async with guarded(redis_url, clock) as running:
        yield running


def protected(edge: Replica) -> list[Operation]:
    """Those that take a token."""
    return [one for one in edge.operations if one.scope is not None]


def of_sessions(edge: Replica) -> list[Operation]:
    """Those about one session."""
    return [one for one in protected(edge) if "{session_id}" in one.path]


def path_of(operation: Operation, session_id: str = UNUSED_ID) -> str:
    """An address of it: the first value that is allowed for each further part."""
    values = {one.name: str(one.schema.get("enum", ["x"])[0]) for one in operation.parameters if one.place == "path"}
    return re.sub(r"\{(\w+)[^}]*\}", lambda match: (values | {"session_id": session_id})[match[1]], operation.path)


async def request(
    edge: Replica, operation: Operation, text: str | None, session_id: str = UNUSED_ID
) -> httpx2.Response:
    """Its answer, the body read unless it is a stream of events."""
    headers = {} if text is None else bearer(text)
    async with (
        httpx2.AsyncClient(base_url=edge.http, headers=headers, timeout=15) as http,
        http.stream(operation.method, path_of(operation, session_id)) as answer,
    ):
        if "event-stream" not in answer.headers.get("content-type", ""):
            await answer.aread()
        return answer


async def codes(
    edge: Replica, operations: list[Operation], text: str | None, session_id: str = UNUSED_ID
) -> dict[str, str]:
    """Status and code of each one's answer, by name."""
    found = {}
    for one in operations:
        answer = await request(edge, one, text, session_id)
        is_problem = answer.headers.get("content-type") == PROBLEM_JSON
        found[one.name] = f"{answer.status_code} {answer.json()['code'] if is_problem else ''}".strip()
    return found


async def test_every_operation_needs_a_token(edge: Replica) -> None:
    """Without a token every operation that has a scope answers 401 and says how to come back (SAFE-4, STATUS-2)."""
    some = protected(edge)
    assert len(some) > 3
    assert await codes(edge, some, None) == {one.name: "401 unauthorized" for one in some}
    assert await codes(edge, some, token(exp=NOW_S - 1)) == {one.name: "401 unauthorized" for one in some}
    answer = await request(edge, some[0], None)
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_what_is_open_to_all_is_a_short_list(edge: Replica) -> None:
    """Only operations without tenants' data are answered without a token."""
    opened = {one.path for one in edge.operations if one.scope is None}
    assert opened <= {
        "/v1/health", "/v1/ready", "/v1/diagnostics", "/metrics", "/openapi.json", "/asyncapi.json", "/live/status",
    }  # fmt: skip


async def test_every_operation_needs_its_scope(edge: Replica) -> None:
    """A token without the operation's scope gets 403 (SAFE-4)."""
    some = protected(edge)
    assert await codes(edge, some, token(scope="")) == {one.name: "403 forbidden" for one in some}
    for scope, insufficient in ((Scope.INGEST, "read"), (Scope.ADMIN, "ingest read"), (Scope.READ, "ingest")):
        # One's own session is read with `ingest` as well.
        those = [
            one for one in some if one.scope is scope and not (scope is Scope.READ and "{session_id}" in one.path)
        ]
        assert await codes(edge, those, token(scope=insufficient)) == {one.name: "403 forbidden" for one in those}


@contextlib.asynccontextmanager
async def session_of(edge: Replica, text: str) -> AsyncIterator[str]:
    """A live session of the token's subject."""
    async with edge.connect(additional_headers=bearer(text)) as client:
        session_id: str = (await client.next())["session_id"]
        yield session_id


@pytest.mark.usefixtures("path")
async def test_tenants_are_isolated_everywhere(edge: Replica) -> None:
    """Another tenant's session is a 404 wherever an address names it, and in no list, whatever the scopes (SAFE-4)."""
    other_tenant = token(sub="eve", tenant_id="other", scope=EVERY_SCOPE)
    named = of_sessions(edge)
    assert len(named) > 2
    async with session_of(edge, token()) as session_id:
        reading = [one for one in named if one.method == "GET"]
        await eventually_async(lambda: seen(edge, "get_session", token(), session_id))
        mine = await codes(edge, reading, token(), session_id)
        assert not [name for name, code in mine.items() if code.endswith("unknown_session")]
        theirs = await codes(edge, named, other_tenant, session_id)
        assert theirs == {one.name: "404 unknown_session" for one in named}
        assert theirs == await codes(edge, named, other_tenant, UNUSED_ID)
        for one in protected(edge):
            if one not in named and one.method == "GET":
                assert session_id not in (await request(edge, one, other_tenant)).text
        assert await seen(edge, "list_sessions", token(), session_id)
        assert edge.core.connections


async def seen(edge: Replica, name: str, text: str, session_id: str) -> bool:
    """Whether the session stands in the answer of the operation of that name."""
    [one] = [one for one in edge.operations if one.name == name]
    return session_id in (await request(edge, one, text, session_id)).text


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("who", "code"), [
    ({}, "200"),
    ({"scope": "ingest"}, "200"),
    ({"sub": "bob"}, "200"),
    ({"sub": "bob", "scope": "read"}, "200"),
    ({"sub": "bob", "scope": "admin"}, "200"),
    ({"sub": "bob", "scope": "ingest"}, "404 unknown_session"),
    ({"sub": "root", "tenant_id": "*", "scope": "admin"}, "200"),
])  # fmt: skip
async def test_a_session_is_visible_to_its_owner_and_readers(edge: Replica, who: dict[str, str], code: str) -> None:
    """Its owner, readers of its tenant, its admins and operators see a session, other ingesters don't (SAFE-4)."""
    [reading] = [one for one in edge.operations if one.name == "get_session"]
    async with session_of(edge, token()) as session_id:
        await eventually_async(lambda: seen(edge, "get_session", token(), session_id))
        assert await codes(edge, [reading], token(**who), session_id) == {"get_session": code}


# The WebSocket


@pytest.mark.parametrize(("text", "code"), [
    (None, "unauthorized"), ("nonsense", "unauthorized"), (token(exp=NOW_S - 1), "unauthorized"),
    (token(scope="read"), "forbidden"),
])  # fmt: skip
async def test_a_socket_needs_a_token(edge: Replica, text: str | None, code: str) -> None:
    """A handshake without a valid token gets the reason and a close, and leaves nothing in Redis (SAFE-4)."""
    headers = {} if text is None else bearer(text)
    before = await edge.core.server.execute("DBSIZE")
    async with edge.connect(additional_headers=headers) as client:
        message = await client.next()
        assert (message["type"], message["code"], message["fatal"]) == ("error", code, True)
        assert await client.closed() == 1008
    assert await edge.core.server.execute("DBSIZE") == before


async def test_a_browser_sends_its_token_as_a_subprotocol(edge: Replica) -> None:
    """A token beside the subprotocol `stenolog` is taken, and only `stenolog` is answered (SAFE-4)."""
    async with edge.connect(subprotocols=["stenolog", f"bearer.{token()}"]) as client:
        assert (await client.next())["type"] == "session_start"
        assert client.socket.subprotocol == "stenolog"


async def test_a_url_carries_no_token(edge: Replica) -> None:
    """A token in the query string is none (SAFE-4)."""
    async with edge.connect(f"access_token={token()}&token={token()}&authorization=Bearer%20{token()}") as client:
        assert (await client.next())["code"] == "unauthorized"


async def test_a_session_belongs_to_its_opener(edge: Replica) -> None:
    """A session belongs to the tenant and subject of the token that opened it."""
    async with session_of(edge, token()) as session_id:
        found = await edge.log.read_position(edge.core.server.keys.of(session_id))
    assert found is not None
    assert (found.tenant_id, found.owner_id) == ("acme", "ana")
    assert (found.start.tenant_id, found.start.owner_id) == ("acme", "ana")


# Expiry


async def test_an_expiry_ends_nothing_before_the_bound(edge: Replica, clock: Clock) -> None:
    """A connection outlives its token by the bound, then is closed with its own code, and resumes (SAFE-4)."""
    bound_s = EdgeSettings().auth_grace_s
    async with edge.connect(additional_headers=bearer(token())) as client:
        start = await client.next()
        clock.now_s = NOW_S + 600 + bound_s - 1
        await edge.core._close_expired()
        await client.speak(1)
        await client.acked(FRAME_SAMPLES)
        clock.now_s += 1
        error = await client.until("error")
        assert (error["code"], await client.closed()) == ("token_expired", 1008)
    async with edge.connect(resuming(start), additional_headers=bearer(token())) as client:
        assert (await client.next())["code"] == "unauthorized"
    async with edge.connect(resuming(start), additional_headers=bearer(token(exp=clock.now_s + 9))) as client:
        assert (await client.next())["offset"] == FRAME_SAMPLES


async def test_resume_tokens_expire(redis_url: str, clock: Clock) -> None:
    """A resume token is good for so long after its last use, and each use renews that (SAFE-4)."""
    async with guarded(redis_url, clock) as edge:
        async with edge.connect(additional_headers=bearer(token())) as client:
            start = await client.next()
        hash_key = edge.core.server.keys.of(start["session_id"]).session
        server = edge.core.server
        until_ms = int(await server.execute("HGET", hash_key, "token_until_ms"))
        await server.execute("HSET", hash_key, "token_until_ms", await server.time_ms() + 5_000)
        async with edge.connect(resuming(start), additional_headers=bearer(token())) as client:
            assert (await client.next())["type"] == "session_start"
        assert int(await server.execute("HGET", hash_key, "token_until_ms")) >= until_ms
        await server.execute("HSET", hash_key, "token_until_ms", await server.time_ms() - 1)
        async with edge.connect(resuming(start), additional_headers=bearer(token())) as client:
            assert (await client.next())["code"] == "invalid_resume_token"


# Tickets


async def ticket(edge: Replica, session_id: str, text: str) -> str:
    """A ticket for a session's event streams."""
    [issuing] = [one for one in edge.operations if one.name == "issue_ticket"]
    answer = await request(edge, issuing, text, session_id)
    assert answer.status_code == 200
    assert answer.json()["expires_in_s"] == 60
    found: str = answer.json()["ticket"]
    return found


async def with_ticket(edge: Replica, operation: Operation, session_id: str, given: str) -> int:
    """Status of the answer to a client with a ticket and no token."""
    async with (
        httpx2.AsyncClient(base_url=edge.http, timeout=15) as http,
        http.stream(operation.method, path_of(operation, session_id), params={"ticket": given}) as answer,
    ):
        return answer.status_code


@pytest.mark.usefixtures("path")
async def test_a_ticket_opens_event_streams_of_its_session(edge: Replica) -> None:
    """A ticket opens its session's event streams any number of times, and nothing else (SAFE-4)."""
    async with session_of(edge, token()) as session_id, session_of(edge, token()) as another:
        await eventually_async(lambda: seen(edge, "get_session", token(), session_id))
        given = await ticket(edge, session_id, token(scope="ingest"))
        streams = [one for one in of_sessions(edge) if one.accepts_ticket]
        assert len(streams) > 1
        assert {one.method for one in streams} == {"GET"}
        assert {kind for one in streams for answer in one.answers for kind in answer.kinds} == {"text/event-stream"}
        for one in of_sessions(edge):
            expected = 200 if one.accepts_ticket else 401
            for _ in range(2):
                assert await with_ticket(edge, one, session_id, given) == expected, one.name
            assert await with_ticket(edge, one, another, given) == 401
            assert await with_ticket(edge, one, session_id, "invented") == 401
        key = next(iter(await edge.core.server.execute("KEYS", keys_module.ticket("*"))))
        assert given.encode() not in key
        assert 0 < await edge.core.server.execute("TTL", key) <= 60
        assert given.encode() not in await edge.core.server.execute("GET", key)
        await edge.core.server.execute("DEL", key)
        assert await with_ticket(edge, streams[0], session_id, given) == 401
