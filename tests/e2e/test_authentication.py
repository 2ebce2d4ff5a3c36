"""Authentication with the real processes: tokens of `stenolog token`, and an issuer's keys in a file."""

import json
from pathlib import Path

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.conftest import AUTH_SECRET
from tests.e2e.deployment import Up
from tests.e2e.processes import Roles
from tests.integration.edge.replicas import Client
from tests.integration.edge.tokens import bearer
from tests.support.commands import stenolog
from tests.support.tree import ROOT

SECRET = {"STENOLOG_AUTH": "hs256", "STENOLOG_AUTH_SECRET": AUTH_SECRET}


def made(cwd: Path, *options: str) -> str:
    """A token that `stenolog token` prints."""
    done = stenolog("token", *options, cwd=cwd, variables=SECRET)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


async def test_a_deployment_with_tokens(redis_url: str, tmp_path: Path) -> None:
    """A real edge takes tokens of `stenolog token` alone, follows its settings, and logs no secret (SAFE-4)."""
    with Roles(redis_url, tmp_path, **SECRET, STENOLOG_RESUME_TOKEN_TTL_S="100") as roles:
        edge = roles.edge(STENOLOG_TICKET_TTL_S="7", STENOLOG_ALLOWED_ORIGINS="https://app.example")
        mine = made(tmp_path, "--tenant", "acme", "--subject", "ana")
        address = f"ws://127.0.0.1:{edge.port}/v1/transcribe/stream"
        async with Client(address, additional_headers=bearer(mine)) as client:
            start = await client.next()
            key = roles.keys.of(start["session_id"]).session
            found = roles.redis.hgetall(key)
            assert (found["tenant"], found["owner"]) == ("acme", "ana")
            assert int(found["token_until_ms"]) - int(found["seen_ms"]) == 100_000
            assert start["resume_token"] not in json.dumps(found)
            async with httpx2.AsyncClient(base_url=edge.url) as http:
                assert (await http.get("/v1/sessions")).status_code == 401
                other = bearer(made(tmp_path, "--tenant", "other"))
                path = f"/v1/sessions/{start['session_id']}"
                assert (await http.get(path, headers=other)).status_code == 404
                answer = await http.post(f"{path}/ticket", headers={**bearer(mine), "origin": "https://app.example"})
                assert answer.json()["expires_in_s"] == 7
                assert answer.headers["access-control-allow-origin"] == "https://app.example"
                stream = http.stream("GET", f"{path}/events", params={"ticket": answer.json()["ticket"]})
                async with stream as events:
                    assert events.status_code == 200
        logged = edge.log.read_text()
        for secret in (mine, answer.json()["ticket"], start["resume_token"], SECRET["STENOLOG_AUTH_SECRET"]):
            assert secret not in logged


async def test_a_deployment_with_an_issuer(redis_url: str, tmp_path: Path) -> None:
    """A real edge takes tokens of an issuer whose keys are in a file (SAFE-4)."""
    key = ec.generate_private_key(ec.SECP256R1())
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))]}))
    with Roles(redis_url, tmp_path, STENOLOG_AUTH="jwks", STENOLOG_AUTH_JWKS=str(keys)) as roles:
        edge = roles.edge(STENOLOG_AUTH_AUDIENCE="stenolog")
        claims = {"sub": "ana", "tenant_id": "acme", "scope": "read", "exp": 4_000_000_000}
        async with httpx2.AsyncClient(base_url=edge.url) as http:
            for audience, status in (("stenolog", 200), ("other", 401)):
                text = jwt.encode({**claims, "aud": audience}, key, "ES256")
                assert (await http.get("/v1/sessions", headers=bearer(text))).status_code == status


def test_everything_in_one_command_with_tokens(secured_up: Up, tmp_path: Path) -> None:
    """`stenolog up` with a secret may listen on every address, and the command line sends it a token (SAFE-4)."""
    assert secured_up.ready["url"].startswith("http://0.0.0.0:")
    assert httpx2.get(f"{secured_up.url}/v1/sessions").status_code == 401
    variables = {"STENOLOG_TOKEN": made(tmp_path)}
    speech = str(next((ROOT / "speech").glob("*.wav")))
    done = stenolog("transcribe", speech, "--url", secured_up.url, cwd=tmp_path, variables=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    refused = stenolog("transcribe", speech, "--url", secured_up.url, cwd=tmp_path)
    assert refused.returncode == 1
    assert b"token" in refused.stderr
