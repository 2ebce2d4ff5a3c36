"""On whose behalf a recording is processed."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.auth.access import ANONYMOUS, Principal, Scope
from edge.ingest.identity import (
    ACCOUNT_HEADER,
    SHOWN_CHARACTERS,
    TENANT_HEADER,
    USER_HEADER,
    Fallbacks,
    Identity,
    Malformed,
    identify,
)
from eventlog.codec import decode_fact
from eventlog.events import SessionOpened
from eventlog.positions import START
from stenolog.settings import SettingsError, load
from tests.integration.edge.replicas import Replica, replica
from tests.integration.edge.tokens import bearer, guarded, token
from tests.support.speech import PCM, client_of, refusal, speech
from tests.support.waiting import eventually_async

TENANT = "0c2d1b7e-31c5-4d0a-9d0e-6b8b1c2d3e4f"
MOCK = "7d9f2b0c-6f3e-4c52-8a55-3b1f0d1c2e4a"
ANA = Principal("ana", "acme", frozenset({Scope.INGEST}))
ASYNC = {**PCM, "prefer": "respond-async"}


def identity_of(headers: Mapping[str, str], principal: Principal = ANONYMOUS, **fallbacks: str) -> Identity:
    """The identity that these headers name."""
    return identify(principal, {name: [value] for name, value in headers.items()}, Fallbacks(**fallbacks))[0]


def test_headers_name_the_identity() -> None:
    """Without authentication tenant, user and account are the headers' (BATCH-2)."""
    headers = {TENANT_HEADER: TENANT, USER_HEADER: "u-1", ACCOUNT_HEADER: "a-1"}
    assert identity_of(headers, tenant_id=MOCK, user_id="mock") == Identity(TENANT, "u-1", "a-1")
    assert identity_of({TENANT_HEADER: TENANT.upper()}).tenant_id == TENANT


def test_what_is_missing_falls_back() -> None:
    """A missing tenant and user are the deployment's, else a new UUID v4 and `system`, an account is null (BATCH-2)."""
    assert identity_of({}, tenant_id=MOCK, user_id="mock") == Identity(MOCK, "mock", None)
    first, second = identity_of({}), identity_of({})
    assert uuid.UUID(first.tenant_id).version == 4
    assert first.tenant_id != second.tenant_id
    assert first[1:] == ("system", None)


@pytest.mark.parametrize("tenant_id", [
    "acme", "", TENANT + " ", "{" + TENANT + "}", TENANT.replace("-", ""), f"urn:uuid:{TENANT}",
    "0c2d1b7e-31c5-1d0a-9d0e-6b8b1c2d3e4f", "0c2d1b7e-31c5-4d0a-1d0e-6b8b1c2d3e4f", "x" * 100_000, "\n\x00é",
])  # fmt: skip
def test_a_malformed_tenant_is_replaced(tenant_id: str) -> None:
    """Anything but a UUID v4 counts as missing, and a short, escaped beginning of it is logged (BATCH-2)."""
    found, malformed = identify(ANONYMOUS, {TENANT_HEADER: [tenant_id]}, Fallbacks(tenant_id=MOCK))
    assert found.tenant_id == MOCK
    assert [one.header for one in malformed] == [TENANT_HEADER]
    assert malformed[0].shown.isascii()
    assert malformed[0].shown.isprintable()
    assert len(malformed[0].shown) <= 4 * SHOWN_CHARACTERS + 2


def test_a_contradictory_header_is_ignored() -> None:
    """A header that comes twice with different values counts as malformed, twice the same as once (BATCH-2)."""
    found, malformed = identify(ANONYMOUS, {TENANT_HEADER: [TENANT, MOCK], USER_HEADER: ["u", "u"]}, Fallbacks())
    assert found.tenant_id not in {TENANT, MOCK}
    assert found.user_id == "u"
    assert [one.header for one in malformed] == [TENANT_HEADER]


@given(value=st.text(max_size=300))
def test_users_and_accounts_are_bounded_and_printable(value: str) -> None:
    """A user or account is at most 255 printable characters without spaces, or it is replaced (BATCH-2)."""
    found, malformed = identify(ANONYMOUS, {USER_HEADER: [value], ACCOUNT_HEADER: [value]}, Fallbacks())
    good = 0 < len(value) <= 255 and value.isascii() and value.isprintable() and " " not in value
    assert (found.user_id, found.account_id) == ((value, value) if good else ("system", None))
    assert (malformed == []) == good


def test_a_token_s_claims_win() -> None:
    """With authentication on the headers' tenant and user count for nothing, nor do fallbacks (BATCH-2)."""
    headers = {TENANT_HEADER: TENANT, USER_HEADER: "eve", ACCOUNT_HEADER: "a-1"}
    assert identity_of(headers, ANA, tenant_id=MOCK, user_id="mock") == Identity("acme", "ana", "a-1")
    assert identity_of(headers, ANA._replace(account_id="a-2")) == Identity("acme", "ana", "a-2")
    assert identify(ANA, {TENANT_HEADER: ["nonsense"]}, Fallbacks())[1] == list[Malformed]()


def test_an_operator_names_the_tenant() -> None:
    """An operator's token is of no tenant, so the header names it, and the user is the token's (BATCH-2)."""
    operator = Principal("root", "*", frozenset({Scope.ADMIN}), any_tenant=True)
    assert identity_of({TENANT_HEADER: TENANT, USER_HEADER: "eve"}, operator) == Identity(TENANT, "root", None)


async def pending(http: httpx2.AsyncClient, headers: Mapping[str, str]) -> dict[str, str | None]:
    """The answer to a recording sent with these headers."""
    answer = await http.post("/batch/process", content=speech(1), headers={**ASYNC, **headers})
    assert answer.status_code == 202, answer.text
    found: dict[str, str | None] = answer.json()
    return {name: found[name] for name in ("tenant_id", "user_id", "account_id")}


async def test_the_session_is_the_tenant_s(edge: Replica, http: httpx2.AsyncClient) -> None:
    """Identity stands in the session's first event and its facts, and the session is that tenant's (BATCH-2)."""
    headers = {TENANT_HEADER: TENANT, USER_HEADER: "u-1", ACCOUNT_HEADER: "a-1"}
    answer = await http.post("/batch/process", content=speech(1), headers={**ASYNC, **headers})
    found_keys = edge.core.server.keys.of(answer.json()["interaction_id"])
    found = await edge.log.read_position(found_keys)
    assert found is not None
    assert found.tenant_id == found.start.tenant_id == TENANT
    assert found.start.batch is not None
    assert (found.start.batch.user_id, found.start.batch.account_id) == ("u-1", "a-1")
    [(_, first)] = await edge.log.facts(found_keys.run(), START)
    opened = decode_fact(first)
    assert isinstance(opened, SessionOpened)
    assert (opened.tenant_id, opened.batch) == (TENANT, found.start.batch)


async def test_settings_fill_in(redis_url: str) -> None:
    """`MOCK_TENANT_ID` and `MOCK_USER_ID` stand in for headers that are missing (BATCH-2)."""
    async with replica(redis_url, mock_tenant_id=MOCK, mock_user_id="mock") as edge, client_of(edge) as http:
        assert await pending(http, {}) == {"tenant_id": MOCK, "user_id": "mock", "account_id": None}


def test_a_malformed_fallback_stops_the_start() -> None:
    """A `MOCK_TENANT_ID` that is no UUID v4 is refused at the start with its name (BATCH-2)."""
    with pytest.raises(SettingsError, match="MOCK_TENANT_ID: 'acme' is not a UUID v4"):
        load({"MOCK_TENANT_ID": "acme"}, None)
    with pytest.raises(SettingsError, match="MOCK_USER_ID"):
        load({"MOCK_USER_ID": "two words"}, None)
    settings = load({"MOCK_TENANT_ID": MOCK, "MOCK_USER_ID": "u@example.org"}, None)
    assert (settings.mock_tenant_id, settings.mock_user_id) == (MOCK, "u@example.org")


async def test_a_malformed_tenant_is_logged(http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """A malformed tenant is logged as a warning that names header and replacement, never the whole value (BATCH-2)."""
    with caplog.at_level(logging.WARNING, "edge.ingest.batch"):
        found = await pending(http, {TENANT_HEADER: "not-a-uuid" * 50})
    [record] = [one for one in caplog.records if one.name == "edge.ingest.batch"]
    assert (record.levelname, record.__dict__["header"]) == ("WARNING", TENANT_HEADER)
    assert record.__dict__["tenant_id"] == found["tenant_id"]
    assert "not-a-uuid" * 5 not in str(record.__dict__)
    assert uuid.UUID(str(found["tenant_id"])).version == 4


async def test_a_tenant_s_limit_is_its_own(redis_url: str) -> None:
    """The tenant that a header names has its own limit of sessions, and others have theirs (BATCH-2, SESS-6)."""
    may_end = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield speech(1)
        await may_end.wait()

    async with replica(redis_url, max_sessions_per_tenant=1) as edge, client_of(edge) as http:
        mine = {**ASYNC, TENANT_HEADER: TENANT}
        first = asyncio.create_task(http.post("/batch/process", content=body(), headers=mine))
        await eventually_async(edge.core.reservations.held)
        answer = await http.post("/batch/process", content=speech(1), headers=mine)
        assert refusal(answer) == (429, "session_limit_exceeded")
        assert (await pending(http, {TENANT_HEADER: MOCK}))["tenant_id"] == MOCK
        may_end.set()
        assert (await first).status_code == 202
        assert (await pending(http, {TENANT_HEADER: TENANT}))["tenant_id"] == TENANT


async def test_a_token_wins_over_headers(redis_url: str) -> None:
    """With authentication on the recording is of the token's tenant, subject and account (BATCH-2)."""
    headers = {**bearer(token(account_id="a-9")), TENANT_HEADER: TENANT, USER_HEADER: "eve", ACCOUNT_HEADER: "a-1"}
    async with guarded(redis_url) as edge, client_of(edge) as http:
        answer = await http.post("/batch/process", content=speech(1), headers={**ASYNC, **headers})
        said = answer.json()
        assert (said["tenant_id"], said["user_id"], said["account_id"]) == ("acme", "ana", "a-9")
        url = said["result_url"]
        assert (await http.get(url, headers=bearer(token()))).status_code == 202
        assert refusal(await http.get(url, headers=bearer(token(tenant_id=TENANT)))) == (404, "unknown_session")
        assert refusal(await http.get(url)) == (401, "unauthorized")
        unusable = await http.get(url, headers=bearer(token(account_id="two words")))
        assert refusal(unusable) == (401, "unauthorized")
