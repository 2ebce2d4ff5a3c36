"""`stenolog token`, and how commands start and refuse to start with authentication."""

from collections.abc import Mapping
from pathlib import Path

import jwt
import pytest
from starlette.requests import HTTPConnection

from edge.auth.access import Principal, Scope
from edge.auth.authentication import SharedSecret, TokenAuthenticator
from tests.support.commands import stenolog

SECRET = "a secret of the tests, and long enough"
WITH_SECRET = {"STENOLOG_AUTH": "hs256", "STENOLOG_AUTH_SECRET": SECRET}


def made(*options: str, cwd: Path, **more: str) -> str:
    """The token that the command prints."""
    done = stenolog("token", *options, cwd=cwd, variables={**WITH_SECRET, **more})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"\n")
    return done.stdout.decode().removesuffix("\n")


async def principal(text: str, issuer: str = "", audience: str = "") -> Principal:
    """The principal that an edge sees in the token."""
    headers = [(b"authorization", b"Bearer " + text.encode())]
    tokens = TokenAuthenticator(SharedSecret(SECRET), issuer=issuer, audience=audience)
    return await tokens.authenticate(HTTPConnection({"type": "http", "headers": headers}))


async def test_a_made_token_is_taken(tmp_path: Path) -> None:
    """The command prints a token that edges with the same settings take (SAFE-4)."""
    options = ["--tenant", "acme", "--subject", "ana", "--scope", "read", "--scope", "ingest", "--ttl", "60"]
    text = made(*options, cwd=tmp_path, STENOLOG_AUTH_ISSUER="me", STENOLOG_AUTH_AUDIENCE="you")
    found = await principal(text, "me", "you")
    assert found[:3] == ("ana", "acme", frozenset({Scope.READ, Scope.INGEST}))
    claims = jwt.decode(text, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60


async def test_an_operators_token(tmp_path: Path) -> None:
    """The tenant `*` with scope admin makes an operator, and goes with no other scope."""
    assert (await principal(made("--tenant", "*", "--scope", "admin", cwd=tmp_path))).any_tenant
    done = stenolog("token", "--tenant", "*", cwd=tmp_path, variables=WITH_SECRET)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--scope admin" in done.stderr


@pytest.mark.parametrize("variables", [
    {}, {"STENOLOG_AUTH": "jwks", "STENOLOG_AUTH_JWKS": "keys.json"}, {"STENOLOG_AUTH_SECRET": SECRET},
])  # fmt: skip
def test_without_a_secret_of_its_own_it_makes_none(variables: Mapping[str, str], tmp_path: Path) -> None:
    """Where tokens aren't checked by a shared secret the command refuses, and names the setting."""
    done = stenolog("token", cwd=tmp_path, variables=variables)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"STENOLOG_AUTH is" in done.stderr


@pytest.mark.parametrize(("variables", "said"), [
    ({"STENOLOG_AUTH": "hs256"}, b"STENOLOG_AUTH_SECRET"),
    ({"STENOLOG_AUTH": "hs256", "STENOLOG_AUTH_SECRET": "x" * 31}, b"at least 32 bytes"),
    ({"STENOLOG_AUTH": "jwks"}, b"STENOLOG_AUTH_JWKS"),
    ({"STENOLOG_AUTH": "jwks", "STENOLOG_AUTH_JWKS": "ftp://keys"}, b"STENOLOG_AUTH_JWKS"),
    ({"STENOLOG_AUTH": "none"}, b"one of off, hs256, jwks"),
    ({"STENOLOG_ALLOWED_ORIGINS": "https://app.example.com/path"}, b"STENOLOG_ALLOWED_ORIGINS"),
    ({"STENOLOG_REDIS_CERT_FILE": "cert.pem"}, b"STENOLOG_REDIS_KEY_FILE"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["up", "edge"])
def test_half_an_authentication_refuses_to_start(
    command: str, variables: Mapping[str, str], said: bytes, tmp_path: Path
) -> None:
    """A missing or short secret, a missing key set and a bad origin are named, without the secret (SAFE-4)."""
    done = stenolog(command, "--port", "0", cwd=tmp_path, variables=variables)
    assert done.returncode == 2
    assert said in done.stderr
    assert b"x" * 31 not in done.stderr
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_with_authentication_it_may_be_reached(tmp_path: Path) -> None:
    """With authentication on, a host that others reach isn't refused (SAFE-4)."""
    done = stenolog("edge", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path, variables=WITH_SECRET)  # noqa: S104
    assert done.returncode == 1
    assert b"REDIS_URL" in done.stderr
