"""`stenolog token`: a token for development, signed with the deployment's own secret."""

import os
import time
from collections.abc import Sequence

import click

from stenolog.cli.errors import UNABLE, UserError, told
from stenolog.settings import Settings, load

DEMO_TTL_S = 3600
"""Longer than the recording."""


def run(*, tenant: str, subject: str, scopes: Sequence[str], ttl_s: int) -> None:
    """Print a token, and nothing else, so that a shell can put it into a variable."""
    with told():
        settings = load()
    if settings.auth != "hs256":
        raise UserError(
            f"STENOLOG_AUTH is {settings.auth}; tokens can be made here only where it is hs256, "
            "with the same STENOLOG_AUTH_SECRET as the edges have",
            UNABLE,
        )
    if tenant == "*" and "admin" not in scopes:
        raise UserError("the tenant * is the operators'; it goes with --scope admin", UNABLE)
    click.echo(mint(settings, tenant=tenant, subject=subject, scopes=scopes, ttl_s=ttl_s))


def mint(settings: Settings, *, tenant: str, subject: str, scopes: Sequence[str], ttl_s: int) -> str:
    """A token that edges with these settings take."""
    import jwt  # noqa: PLC0415 - it loads the cryptography

    now_s = int(time.time())
    claims = {"sub": subject, "tenant_id": tenant, "scope": " ".join(scopes), "iat": now_s, "exp": now_s + ttl_s}
    named = {"iss": settings.auth_issuer, "aud": settings.auth_audience}
    claims |= {name: value for name, value in named.items() if value}
    return jwt.encode(claims, settings.auth_secret, "HS256")


def demo_token(settings: Settings) -> str:
    """What `stenolog up --demo` shows to its own edge: the environment's, or one of its own making."""
    if settings.auth == "hs256":
        return mint(settings, tenant="demo", subject="demo", scopes=("ingest", "read"), ttl_s=DEMO_TTL_S)
    return os.environ.get("STENOLOG_TOKEN", "")
