"""``/v1/webhooks`` on running edges."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from edge.settings import EdgeSettings
from edge.views.webhooks import MAX_BODY_BYTES
from eventlog import keys
from eventlog.projection.webhook_subscriptions import (
    DEFAULT_KINDS,
    KINDS,
    MOST_SUBSCRIPTIONS,
    Subscriptions,
    decode_secret,
    new_secret,
)
from tests.integration.edge.replicas import Replica, replica
from tests.integration.edge.tokens import NOW_S, bearer, guarded, token
from tests.support.speech import client_of, refusal

URL = "https://hooks.example/in?key=hidden"
ADMIN = bearer(token(scope="admin"))
UNKNOWN = "00000000-0000-4000-8000-000000000009"
TENANT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


async def made(client: httpx2.AsyncClient, headers: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """The fields of a new subscription."""
    answer = await client.post("/v1/webhooks", json={"url": URL, **options}, headers=headers or {})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def listed(client: httpx2.AsyncClient, headers: dict[str, str] | None = None, query: str = "") -> list[str]:
    """The ids of all subscriptions."""
    answer = await client.get(f"/v1/webhooks{query}", headers=headers or {})
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["webhooks"]]


async def test_a_secret_is_shown_once(redis_url: str) -> None:
    """A new subscription comes with a secret, which no later answer and no log shows again."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        one = await made(client, description="billing")
        assert len(decode_secret(one["secret"])) == 32
        shown = {name: value for name, value in one.items() if name != "secret"}
        assert shown["kinds"] == [kind for kind in KINDS if kind in DEFAULT_KINDS]
        assert (shown["url"], shown["description"], shown["disabled_at"]) == (URL, "billing", None)
        assert (await client.get(f"/v1/webhooks/{one['id']}")).json() == shown
        assert (await client.get("/v1/webhooks")).json() == {"webhooks": [shown]}
        stored = await Subscriptions(edge.core.server).read("")
        assert [each.secret for each in stored] == [one["secret"]]


async def test_a_secret_may_be_brought(redis_url: str) -> None:
    """A secret that can't be guessed is taken unchanged, any other is refused without being quoted."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        secret = new_secret()
        assert (await made(client, secret=secret))["secret"] == secret
        answer = await client.post("/v1/webhooks", json={"url": URL, "secret": "whsec_bm90IHJhbmRvbQ=="})
        assert refusal(answer) == (400, "invalid_request")
        assert "bm90" not in answer.text


async def test_a_deleted_one_is_gone(redis_url: str) -> None:
    """A deleted subscription is unknown from then on, to any replica."""
    async with (
        replica(redis_url) as edge, replica(redis_url) as another,
        client_of(edge) as client, client_of(another) as elsewhere,
    ):  # fmt: skip
        one = await made(client)
        assert await listed(elsewhere) == [one["id"]]
        assert (await elsewhere.delete(f"/v1/webhooks/{one['id']}")).status_code == 204
        for method in ("GET", "DELETE"):
            for name in (one["id"], UNKNOWN, "x"):
                assert refusal(await client.request(method, f"/v1/webhooks/{name}")) == (404, "unknown_webhook")
        assert await listed(client) == []


@pytest.mark.parametrize("url", [
    "http://hooks.example/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "https://localhost/",
    "https://169.254.169.254/", "https://user:password@hooks.example/", "https://2130706433/", "ftp://x/", "x",
])  # fmt: skip
async def test_unfit_addresses_are_refused(redis_url: str, url: str) -> None:
    """An address that nothing would be sent to is refused at once, in words that don't quote it."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        answer = await client.post("/v1/webhooks", json={"url": url})
        assert refusal(answer) == (422, "invalid_address")
        assert url not in answer.json()["detail"] or url == "x"
        assert await listed(client) == []


async def test_private_addresses_may_be_allowed(redis_url: str) -> None:
    """With the setting, plain HTTP and private addresses are taken."""
    assert not EdgeSettings().webhook_allow_private
    async with replica(redis_url, webhook_allow_private=True) as edge, client_of(edge) as client:
        assert (await made(client, url="http://127.0.0.1:9000/"))["url"] == "http://127.0.0.1:9000/"


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"{}", b'{"url": 7}', b'{"url": ""}', b'{"url": "https://x/", "kinds": []}',
    b'{"url": "https://x/", "kinds": ["Everything"]}', b'{"url": "https://x/", "more": 1}', b"\xff",
    b'{"url": "https://x/", "description": "' + b"x" * 201 + b'"}', b'{"url": "https://x/' + b"x" * 2048 + b'"}',
    b'{"url": "https://x/", "secret": 7}', b"[" * 10_000, b" " * (MAX_BODY_BYTES + 1),
])  # fmt: skip
async def test_malformed_bodies_are_refused(redis_url: str, body: bytes) -> None:
    """A body that isn't as documented changes nothing, and is answered as a bad request."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        assert refusal(await client.post("/v1/webhooks", content=body)) == (400, "invalid_request")
        assert await listed(client) == []


async def test_a_tenant_has_a_bounded_number(redis_url: str) -> None:
    """Past the bound a subscription is refused, and others than this tenant are not concerned."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        for _ in range(MOST_SUBSCRIPTIONS):
            await made(client)
        answer = await client.post("/v1/webhooks", json={"url": URL})
        assert refusal(answer) == (409, "webhook_limit_exceeded")
        assert (await client.post("/v1/webhooks?tenant=other", json={"url": URL})).status_code == 201


async def test_only_admins_of_a_tenant_see_its_own(redis_url: str) -> None:
    """Subscriptions are visible to their tenant's admins alone (SAFE-4)."""
    other_tenant, reader = bearer(token(tenant_id="other", scope="admin")), bearer(token(scope="ingest read"))
    async with guarded(redis_url) as edge, client_of(edge) as client:
        one = await made(client, ADMIN)
        path = f"/v1/webhooks/{one['id']}"
        for method, where in (("GET", "/v1/webhooks"), ("POST", "/v1/webhooks"), ("GET", path), ("DELETE", path)):
            assert refusal(await client.request(method, where)) == (401, "unauthorized")
            assert refusal(await client.request(method, where, headers=reader)) == (403, "forbidden")
            named = await client.request(method, f"{where}?tenant=acme", headers=other_tenant)
            assert refusal(named) == (403, "forbidden")
        for method in ("GET", "DELETE"):
            assert refusal(await client.request(method, path, headers=other_tenant)) == (404, "unknown_webhook")
        assert await listed(client, other_tenant) == []
        assert await listed(client, ADMIN) == await listed(client, ADMIN, "?tenant=acme") == [one["id"]]
        assert (await client.delete(path, headers=ADMIN)).status_code == 204


async def test_an_operator_names_the_tenant(redis_url: str) -> None:
    """An operator's token sees any tenant's subscriptions, one tenant at a time (SAFE-4)."""
    operator = bearer(token(sub="root", tenant_id="*", scope="admin", exp=NOW_S + 60))
    async with guarded(redis_url) as edge, client_of(edge) as client:
        one = await made(client, ADMIN)
        assert refusal(await client.get("/v1/webhooks", headers=operator)) == (400, "invalid_query")
        assert await listed(client, operator, "?tenant=acme") == [one["id"]]
        assert await listed(client, operator, "?tenant=other") == []
        assert (await client.delete(f"/v1/webhooks/{one['id']}?tenant=acme", headers=operator)).status_code == 204


async def test_without_authentication_the_query_names_the_tenant(edge_open: Replica) -> None:
    """With authentication off a request names whose recordings it is about, however their id is written (BATCH-2)."""
    async with client_of(edge_open) as client:
        answer = await client.post(f"/v1/webhooks?tenant={TENANT.upper()}", json={"url": URL})
        assert answer.status_code == 201
        assert await listed(client, query=f"?tenant={TENANT}") == [answer.json()["id"]]
        assert await listed(client) == []
        assert await edge_open.core.server.execute("EXISTS", keys.webhooks(TENANT)) == 1
        for tenant in ("", "a b", "%C3%A4", "x" * 129, "a%0A"):
            assert refusal(await client.get(f"/v1/webhooks?tenant={tenant}")) == (400, "invalid_query")


@pytest.fixture
async def edge_open(redis_url: str) -> AsyncIterator[Replica]:
    """An edge without authentication."""
    async with replica(redis_url) as running:
        yield running
