"""Sessions over HTTP: listing, metrics, one session, and access."""

import time
import uuid
from contextlib import AsyncExitStack

import httpx2
import pytest
from starlette.requests import HTTPConnection

from edge.auth.access import ANONYMOUS, Principal, Scope
from edge.errors import UNAUTHORIZED, ApiError
from tests.integration.edge.replicas import Replica, replica
from tests.integration.edge.test_stream import spoken
from tests.support.waiting import eventually_async


class Badges:
    """Believes what a header says: ``subject tenant scope,scope``."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """See `Authenticator`."""
        if "badge" not in connection.headers:
            raise ApiError(UNAUTHORIZED, "no badge")
        subject, tenant_id, scopes = connection.headers["badge"].split(" ")
        if subject == "operator":
            return ANONYMOUS
        return Principal(subject, tenant_id, frozenset(map(Scope, scopes.split(","))))


ANN, BEN = {"badge": "ann acme ingest,read"}, {"badge": "ben other ingest,read"}
COLLEAGUE, ADMIN = {"badge": "cat acme ingest,read"}, {"badge": "dan acme admin"}
OPERATOR = {"badge": "operator - -"}


async def ask(edge: Replica, path: str, method: str = "GET", **headers: str) -> httpx2.Response:
    """One HTTP request."""
    async with httpx2.AsyncClient() as http:
        return await http.request(method, edge.http + path, headers=headers)


async def listed(edge: Replica, query: str = "", **headers: str) -> set[str]:
    """The ids that are listed."""
    answer = await ask(edge, f"/v1/sessions{query}", **headers)
    assert answer.status_code == 200, answer.text
    return {one["session_id"] for one in answer.json()["sessions"]}


async def test_a_session_is_known_at_once(edge: Replica) -> None:
    """A session that no projection has seen yet exists, created, with an empty transcript (SESS-4, STITCH-6)."""
    async with edge.connect("sample_rate=8000&language=de") as client:
        session_id = (await client.next())["session_id"]
        found = (await ask(edge, f"/v1/sessions/{session_id}")).json()
        transcript = await ask(edge, f"/v1/sessions/{session_id}/transcript")
    assert (found["session_id"], found["state"], found["sample_rate"]) == (session_id, "CREATED", 8000)
    assert (found["language"], found["finals"], found["audio_seconds"]) == ("de", 0, 0.0)
    assert (transcript.status_code, transcript.json()["transcript"]) == (200, "")


@pytest.mark.usefixtures("path")
async def test_a_listing_has_the_sessions_states(redis_url: str) -> None:
    """The listing has state, tenant, age, audio, finals and lag of each session, and pages through all (SESS-4)."""
    async with replica(redis_url) as edge, edge.connect() as talking, AsyncExitStack() as stack:
        ids = [(await talking.next())["session_id"]]
        opened_ms = time.time_ns() // 1_000_000
        await eventually_async(lambda: time.time_ns() // 1_000_000 > opened_ms)  # or neither would be the older one
        silent = await stack.enter_async_context(edge.connect())
        ids.append((await silent.next())["session_id"])
        await spoken(talking, utterances=1)
        await talking.until("final")

        async def settled() -> dict[str, dict[str, object]]:
            sessions = (await ask(edge, "/v1/sessions")).json()["sessions"]
            found = {one["session_id"]: one for one in sessions}
            return found if len(found) == 2 and found[ids[0]]["state"] == "ACTIVE" else {}

        found = await eventually_async(settled)
        one = found[ids[0]]
        assert (one["finals"], one["tenant_id"], one["engine"], one["encoding"]) == (1, "", "mock", "linear16")
        assert one["audio_seconds"] == 2.5
        assert 0 <= float(str(one["lag_seconds"])) < 2.5
        assert 0 < float(str(one["age_s"])) < 60
        assert found[ids[1]]["state"] == "CREATED"
        first = (await ask(edge, "/v1/sessions?limit=1")).json()
        second = (await ask(edge, f"/v1/sessions?limit=1&cursor={first['next_cursor']}")).json()
        assert [page["sessions"][0]["session_id"] for page in (first, second)] == ids[::-1]
        third = (await ask(edge, f"/v1/sessions?limit=1&cursor={second['next_cursor']}")).json()
        assert (third["sessions"], third["next_cursor"]) == ([], None)


@pytest.mark.usefixtures("path")
async def test_a_tenant_sees_only_its_own(redis_url: str) -> None:
    """Other tenants' sessions are neither listed, counted nor shown; an operator sees all (SESS-4, SAFE-4)."""
    async with (
        replica(redis_url, authenticator=Badges()) as edge,
        edge.connect(additional_headers=ANN) as ann,
        edge.connect(additional_headers=BEN) as ben,
    ):
        anns, bens = [(await client.next())["session_id"] for client in (ann, ben)]
        everybody = {anns, bens}

        async def all_listed() -> bool:
            return await listed(edge, **OPERATOR) == everybody

        await eventually_async(all_listed)
        assert await listed(edge, **ANN) == await listed(edge, "?tenant=acme", **ANN) == {anns}
        assert await listed(edge, "?tenant=other", **OPERATOR) == await listed(edge, **BEN) == {bens}
        refused = await ask(edge, "/v1/sessions?tenant=other", **ANN)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        counts = [(await ask(edge, "/v1/sessions/metrics", **who)).json()["open"] for who in (ANN, BEN, OPERATOR)]
        assert counts == [1, 1, 2]
        for path in (f"/v1/sessions/{bens}", f"/v1/sessions/{bens}/transcript.srt"):
            assert (await ask(edge, path, **ANN)).status_code == 404
            assert (await ask(edge, path, **BEN)).status_code == 200
            assert (await ask(edge, path)).status_code == 401


async def test_metrics_are_no_sessions_name(edge: Replica) -> None:
    """The aggregates have an address of their own beside the sessions' ids (SESS-4)."""
    answer = (await ask(edge, "/v1/sessions/metrics")).json()
    assert (answer["open"], answer["ended"], answer["states"]["active"]) == (0, 0, 0)


@pytest.mark.parametrize("query", [
    "limit=0", "limit=1001", "limit=x", "limit=", "limit=%D9%A1", "state=asleep", "state=", "cursor=x", "cursor=",
    "cursor=" + "A" * 5000, "tenant=" + "t" * 257,
])  # fmt: skip
async def test_an_invalid_query_is_refused(edge: Replica, query: str) -> None:
    """A parameter of the listing that can't be taken is a 400 with its code."""
    answer = await ask(edge, f"/v1/sessions?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_query")


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("badge", "status"), [(ANN, 204), (ADMIN, 204), (OPERATOR, 204), (BEN, 404), (COLLEAGUE, 404)])
async def test_owners_and_admins_delete(redis_url: str, badge: dict[str, str], status: int) -> None:
    """A session's owner and its tenant's admins may delete it; to others it is unknown (SESS-4, SAFE-4)."""
    async with replica(redis_url, authenticator=Badges()) as edge, edge.connect(additional_headers=ANN) as client:
        address = f"/v1/sessions/{(await client.next())['session_id']}"
        assert (await ask(edge, address, "DELETE", **badge)).status_code == status
        after = (await ask(edge, address, **ANN)).status_code
        assert after == (404 if status == 204 else 200)
        if status == 204:
            assert (await ask(edge, address, "DELETE", **badge)).status_code == 404


async def test_deleting_takes_a_scope(redis_url: str) -> None:
    """A token that may only read deletes nothing (SAFE-4)."""
    async with replica(redis_url, authenticator=Badges()) as edge:
        address = f"/v1/sessions/{uuid.uuid4()}"
        answer = await ask(edge, address, "DELETE", badge="ann acme read")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await ask(edge, address, "DELETE")).status_code == 401
