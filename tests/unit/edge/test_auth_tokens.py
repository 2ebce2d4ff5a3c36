"""Which tokens are accepted, and their principals; no network but for the issuer's keys."""

import base64
import json
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from edge.auth.access import Principal, Scope
from edge.errors import ApiError
from tests.integration.edge.tokens import NOW_S, SECRET, Clock, authenticator, claims, token


def asking(**headers: str) -> HTTPConnection:
    """A request with these headers."""
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": given, "path": "/", "query_string": b""})


def shaking_hands(*subprotocols: str) -> HTTPConnection:
    """A WebSocket's handshake that offers these."""
    return HTTPConnection({"type": "websocket", "headers": [], "subprotocols": list(subprotocols)})


async def principal(text: str, **more: Any) -> Principal:  # noqa: ANN401
    """The principal of a token."""
    return await authenticator(**more).authenticate(asking(authorization=f"Bearer {text}"))


async def refusal(text: str, **more: Any) -> str:  # noqa: ANN401
    """The message for a refused token."""
    with pytest.raises(ApiError) as caught:
        await principal(text, **more)
    assert caught.value.error.code == "unauthorized"
    for part in text.split("."):
        assert len(part) < len("claims") or part not in caught.value.message
    return caught.value.message


async def test_a_token_names_the_caller() -> None:
    """A valid token gives its subject, tenant, scopes and expiry (SAFE-4)."""
    assert await principal(token()) == Principal(
        "ana", "acme", frozenset({Scope.INGEST, Scope.READ}), NOW_S + 600, any_tenant=False
    )


@pytest.mark.parametrize(("given", "tenant_id", "scopes", "any_tenant"), [
    ({"scope": ["read"]}, "acme", {"read"}, False),
    ({"scope": "openid read profile"}, "acme", {"read"}, False),
    ({"scope": None}, "acme", set(), False),
    ({"tenant_id": None, "tenant": "other"}, "other", {"ingest", "read"}, False),
    ({"tenant": "acme"}, "acme", {"ingest", "read"}, False),
    ({"tenant_id": "*", "scope": "admin"}, "*", {"admin"}, True),
    ({"scope": "admin"}, "acme", {"admin"}, False),
    ({"tenant_id": "8d0c5f0e-8f1c-4b39-9b8b-2d5a8f3f6a11"}, "8d0c5f0e-8f1c-4b39-9b8b-2d5a8f3f6a11",
     {"ingest", "read"}, False),
])  # fmt: skip
async def test_claims_are_read(given: dict[str, Any], tenant_id: str, scopes: set[str], *, any_tenant: bool) -> None:
    """Scopes are text or a list, others' are ignored, the tenant has two names, and `*` with admin is an operator."""
    found = await principal(token(**given))
    assert (found.tenant_id, set(map(str, found.scopes)), found.any_tenant) == (tenant_id, scopes, any_tenant)


@pytest.mark.parametrize(("given", "reason"), [
    ({"exp": None}, "claim exp is missing"),
    ({"sub": None}, "claim sub is missing"),
    ({"exp": NOW_S}, "has expired"),
    ({"exp": NOW_S - 1e9}, "has expired"),
    ({"exp": float("inf")}, "has expired"),
    ({"exp": float("nan")}, "has expired"),
    ({"exp": "soon"}, "wrong type"),
    ({"exp": True}, "wrong type"),
    ({"nbf": NOW_S + 1}, "is not valid yet"),
    ({"nbf": float("nan")}, "is not valid yet"),
    ({"nbf": "now"}, "wrong type"),
    ({"sub": ""}, "subject is malformed"),
    ({"sub": "a b"}, "subject is malformed"),
    ({"sub": "x" * 256}, "subject is malformed"),
    ({"sub": 7}, ""),
    ({"scope": 7}, "wrong type"),
    ({"scope": [7]}, "wrong type"),
    ({"tenant_id": None}, "tenant is missing or malformed"),
    ({"tenant_id": ""}, "tenant is missing or malformed"),
    ({"tenant_id": "*"}, "tenant is missing or malformed"),
    ({"tenant_id": None, "scope": "admin"}, "tenant is missing or malformed"),
    ({"tenant_id": "a b"}, "tenant is missing or malformed"),
    ({"tenant_id": "a{b}"}, "tenant is missing or malformed"),
    ({"tenant_id": "é"}, "tenant is missing or malformed"),
    ({"tenant_id": "x" * 129}, "tenant is missing or malformed"),
    ({"tenant": "other"}, "differ"),
])  # fmt: skip
async def test_bad_claims_are_refused(given: dict[str, Any], reason: str) -> None:
    """A signed token with a missing, lapsed or malformed claim is refused, with the reason (SAFE-4)."""
    assert reason in await refusal(token(**given))


async def test_clocks_may_differ_by_the_leeway() -> None:
    """Within the leeway an expired token, and one that isn't valid yet, are taken."""
    assert await principal(token(exp=NOW_S - 4, nbf=NOW_S + 4), leeway_s=5.0)
    assert "expired" in await refusal(token(exp=NOW_S - 5), leeway_s=5.0)
    assert "yet" in await refusal(token(nbf=NOW_S + 6), leeway_s=5.0)


async def test_time_is_the_injected_clock() -> None:
    """A token lapses when the clock passes its expiry."""
    clock = Clock()
    assert await principal(token(), clock=clock)
    clock.now_s += 601
    assert "expired" in await refusal(token(), clock=clock)


def part(**fields: Any) -> str:  # noqa: ANN401
    """A part of a token, made by hand."""
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("text", [
    part(alg="none", typ="JWT") + "." + part(**claims()) + ".",
    part(alg="None", typ="JWT") + "." + part(**claims()) + ".",
    token(algorithm="HS384"),
    token(algorithm="HS512"),
    token(SECRET + "!"),
    token(kid="elsewhere") + "x",
    token()[:-4] + "AAAA",
    token().rpartition(".")[0] + ".",
    token().replace(".", "!"),
    "", ".", "..", "a.b.c", "é.é.é", "x" * 9000, part() + "." + part(**claims()) + ".",
    part(alg="HS256", kid=7) + "." + part(**claims()) + ".x",
    part(alg="HS256", crit=["exp"]) + "." + part(**claims()) + ".x",
])  # fmt: skip
async def test_other_signatures_are_refused(text: str) -> None:
    """Unsigned, wrongly signed and malformed tokens, and those of another algorithm, are refused (SAFE-4)."""
    assert "is not accepted" in await refusal(text)


@pytest.mark.parametrize(("given", "reason"), [
    ({"iss": "https://issuer", "aud": "stenolog"}, ""),
    ({"iss": "https://issuer", "aud": ["other", "stenolog"]}, ""),
    ({"iss": "https://issuer"}, "aud is missing"),
    ({"aud": "stenolog"}, "iss is missing"),
    ({"iss": "https://evil", "aud": "stenolog"}, "another issuer"),
    ({"iss": "https://issuer", "aud": "other"}, "another audience"),
])  # fmt: skip
async def test_issuer_and_audience_are_checked_where_set(given: dict[str, Any], reason: str) -> None:
    """Where settings name an issuer and an audience, a token must be of and for them."""
    text = token(**given)
    if reason:
        assert reason in await refusal(text, issuer="https://issuer", audience="stenolog")
    else:
        assert await principal(text, issuer="https://issuer", audience="stenolog")
    assert await principal(text)


@pytest.mark.parametrize("connection", [
    asking(), asking(authorization="Basic YTpi"), asking(authorization="Bearer"), asking(authorization="Bearer "),
    asking(authorization=token()), shaking_hands(), shaking_hands("stenolog"),
    shaking_hands(f"bearer.{token()}"), shaking_hands("stenolog", "bearer."),
])  # fmt: skip
async def test_a_request_without_a_token_is_refused(connection: HTTPConnection) -> None:
    """Without a bearer token, in the header or as one of two subprotocols, a caller is refused (SAFE-4)."""
    with pytest.raises(ApiError, match="token"):
        await authenticator().authenticate(connection)


@pytest.mark.parametrize("connection", [
    asking(authorization=f"bearer {token()}"), shaking_hands("stenolog", f"bearer.{token()}"),
    shaking_hands(f"bearer.{token()}", "stenolog"),
])  # fmt: skip
async def test_a_token_comes_by_header_or_subprotocol(connection: HTTPConnection) -> None:
    """A token is taken from the header, whatever case its scheme has, or beside the subprotocol `stenolog`."""
    assert (await authenticator().authenticate(connection)).subject == "ana"
