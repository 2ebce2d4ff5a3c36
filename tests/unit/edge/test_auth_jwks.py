"""Tokens that an issuer signs with its own keys: a real HTTP server serves them, fails, and changes them."""

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import HTTPConnection

from edge.auth.access import Principal
from edge.auth.authentication import TokenAuthenticator
from edge.auth.jwks import COOL_DOWN_S, MOST_BYTES, REFRESH_S, IssuerKeys, read_keys
from edge.errors import ApiError
from tests.integration.edge.tokens import Clock, bearer, claims, token
from tests.support.waiting import eventually_async

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(key: RSAPrivateKey | EllipticCurvePrivateKey, kid: str | None, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """A key's public part as an issuer publishes it."""
    if isinstance(key, RSAPrivateKey):
        made = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    else:
        made = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    made.pop("key_ops", None)
    return {**made, **({} if kid is None else {"kid": kid}), **more}


@dataclass
class Issuer:
    """A server that answers with its keys."""

    keys: list[dict[str, Any]]
    url: str = ""
    requests: int = 0
    status: str = "200 OK"
    body: bytes | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, as soon as it isn't held."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            await self.held.wait()
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            head = [f"HTTP/1.1 {self.status}", f"content-length: {len(body)}", "location: /else", "connection: close"]
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            await writer.drain()
        writer.close()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """An issuer with two keys."""
    found = Issuer([jwk(RSA_KEY, "r1", use="sig", alg="RS256"), jwk(EC_KEY, "e1")])
    found.held.set()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
    yield found
    server.close()


@dataclass
class Edge:
    """What an edge does with tokens, on a clock of its own."""

    keys: IssuerKeys
    clock: Clock

    async def principal(self, text: str) -> Principal:
        """The principal of a token."""
        headers = [(name.encode(), value.encode()) for name, value in bearer(text).items()]
        connection = HTTPConnection({"type": "http", "headers": headers, "path": "/", "query_string": b""})
        return await TokenAuthenticator(self.keys, now=Clock()).authenticate(connection)

    async def refusal(self, text: str) -> str:
        """The error code for a refused token."""
        with pytest.raises(ApiError) as caught:
            await self.principal(text)
        return caught.value.error.code


def edge_of(source: str) -> Edge:
    """An edge that has its keys from there."""
    clock = Clock(1000.0)
    return Edge(IssuerKeys(source, now=clock), clock)


async def test_tokens_of_the_issuer_are_taken(issuer: Issuer) -> None:
    """RS256 and ES256 tokens signed with the issuer's keys are taken, and the keys fetched once (SAFE-4)."""
    edge = edge_of(issuer.url)
    for _ in range(3):
        assert (await edge.principal(token(RSA_KEY, "RS256", "r1"))).subject == "ana"
        assert (await edge.principal(token(EC_KEY, "ES256", "e1"))).subject == "ana"
    assert issuer.requests == 1


async def test_keys_may_stand_in_a_file(tmp_path: Path) -> None:
    """The key set may be a file; a single key needs no id."""
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk(EC_KEY, None)]}))
    edge = edge_of(str(tmp_path / "jwks.json"))
    assert (await edge.principal(token(EC_KEY, "ES256"))).subject == "ana"
    assert await edge.refusal(token(EC_KEY, "ES256", "named")) == "unauthorized"


def confused(kid: str) -> str:
    """A token whose signature is an HMAC with the text of a public key."""
    secret = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [json.dumps({"alg": "HS256", "kid": kid}).encode(), json.dumps(claims()).encode()]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=")
    return (signed + b"." + signature).decode()


async def test_other_signatures_are_refused(issuer: Issuer) -> None:
    """A key is used with its own algorithm alone, and a public key is no secret to sign with (SAFE-4)."""
    edge = edge_of(issuer.url)
    refused = [
        token(OTHER_KEY, "ES256", "e1"), token(EC_KEY, "ES256", "r1"), token(RSA_KEY, "RS512", "r1"),
        token(RSA_KEY, "PS256", "r1"), token(EC_KEY, "ES256"), confused("r1"),
    ]  # fmt: skip
    assert [await edge.refusal(text) for text in refused] == ["unauthorized"] * len(refused)


async def test_a_new_key_is_fetched_when_it_first_comes(issuer: Issuer) -> None:
    """A token with an unknown key id has the keys fetched again, at most once in a while (SAFE-4)."""
    edge = edge_of(issuer.url)
    await edge.principal(token(EC_KEY, "ES256", "e1"))
    issuer.keys.append(jwk(OTHER_KEY, "e2"))
    edge.clock.now_s += COOL_DOWN_S - 1
    for number in range(20):
        assert await edge.refusal(token(OTHER_KEY, "ES256", f"invented-{number}")) == "unauthorized"
    assert issuer.requests == 1
    edge.clock.now_s += 1
    assert (await edge.principal(token(OTHER_KEY, "ES256", "e2"))).subject == "ana"
    assert issuer.requests == 2


async def test_concurrent_callers_fetch_once(issuer: Issuer) -> None:
    """Any number of requests that need the keys at the same time cause one fetch."""
    edge = edge_of(issuer.url)
    issuer.held.clear()
    asking = [asyncio.create_task(edge.principal(token(EC_KEY, "ES256", "e1"))) for _ in range(20)]
    await eventually_async(lambda: issuer.requests)
    issuer.held.set()
    assert {found.subject for found in await asyncio.gather(*asking)} == {"ana"}
    assert issuer.requests == 1


async def test_keys_are_kept_while_the_issuer_is_away(issuer: Issuer) -> None:
    """Known keys stay valid however long the issuer fails, and no caller waits for it (SAFE-4)."""
    edge = edge_of(issuer.url)
    text = token(EC_KEY, "ES256", "e1")
    await edge.principal(text)
    issuer.status = "503 Service Unavailable"
    for requests in (2, 3, 4):
        edge.clock.now_s += REFRESH_S + 1
        issuer.held.clear()
        assert (await edge.principal(text)).subject == "ana"
        await eventually_async(functools.partial(_was_requested, issuer, requests))
        issuer.held.set()
        await eventually_async(lambda: edge.keys._refreshing is None)


def _was_requested(issuer: Issuer, times: int) -> bool:
    return issuer.requests == times


async def test_a_withdrawn_key_is_forgotten(issuer: Issuer) -> None:
    """Keys are fetched again after a while, so that a withdrawn one ends."""
    edge = edge_of(issuer.url)
    text = token(EC_KEY, "ES256", "e1")
    await edge.principal(text)
    del issuer.keys[1]
    edge.clock.now_s += REFRESH_S + 1
    await edge.principal(text)
    await eventually_async(lambda: edge.keys._refreshing is None)
    assert await edge.refusal(text) == "unauthorized"


@pytest.mark.parametrize(("status", "body"), [
    ("503 Service Unavailable", None), ("302 Found", None), ("200 OK", b"no JSON"), ("200 OK", b"[]"),
    ("200 OK", b'{"keys": []}'), ("200 OK", b'{"keys": [7]}'), ("200 OK", b" " * (MOST_BYTES + 1)),
    ("200 OK", b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "e1"}]}'),
])  # fmt: skip
async def test_without_any_keys_clients_get_a_retry(issuer: Issuer, status: str, body: bytes | None) -> None:
    """While no key is known yet the answer isn't that the token is bad, and a later fetch corrects it."""
    edge = edge_of(issuer.url)
    issuer.status, issuer.body = status, body
    text = token(EC_KEY, "ES256", "e1")
    assert await edge.refusal(text) == "log_unavailable"
    issuer.status, issuer.body = "200 OK", None
    edge.clock.now_s += COOL_DOWN_S
    assert (await edge.principal(text)).subject == "ana"


async def test_an_unreachable_issuer_is_tried_again() -> None:
    """An unreadable source is reported as such, whatever the cause, and never as a defect."""
    for source in ("http://127.0.0.1:9/jwks", "https://[", "http://", "no-such-file.json"):
        assert await edge_of(source).refusal(token(EC_KEY, "ES256", "e1")) == "log_unavailable"


def test_only_keys_for_signatures_are_read() -> None:
    """Keys for encryption, of other kinds or for other algorithms, and malformed ones are left out."""
    odd = [
        jwk(RSA_KEY, "enc", use="enc"), jwk(RSA_KEY, "ps", alg="PS256"), {"kty": "oct", "k": "c2VjcmV0", "kid": "o"},
        jwk(EC_KEY, "x") | {"x": "%"}, jwk(EC_KEY, "p384", crv="P-384"), {"kty": ["RSA"], "kid": ["l"]}, {},
        {"kty": "RSA", "kid": "short", "n": "AQAB"},
    ]  # fmt: skip
    found = read_keys(json.dumps({"keys": [*odd, jwk(EC_KEY, "good"), jwk(RSA_KEY, "too")]}).encode())
    assert {kid: key.algorithm for kid, key in found.items()} == {"good": "ES256", "too": "RS256"}
