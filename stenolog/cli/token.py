"""`stenolog token`: a token for development, signed with the deployment's own secret."""

import time
from collections.abc import Sequence

import click
import jwt

from stenolog.cli.options import ExampleCommand
from stenolog.errors import UNABLE, UserError
from stenolog.settings import Settings, load


@click.command(cls=ExampleCommand, epilog=(
    "export STENOLOG_AUTH=hs256 STENOLOG_AUTH_SECRET=$(openssl rand -base64 32)\n"
    "stenolog token --tenant acme --subject ana --scope ingest --scope read\n"
    "stenolog token --tenant '*' --subject root --scope admin --ttl 300      an operator\n"
    'curl -H "Authorization: Bearer $(stenolog token --scope read)" localhost:8000/v1/sessions'
))
@click.option("--tenant", default="default", show_default=True, help="Tenant of the token.")
@click.option("--subject", default="developer", show_default=True, help="User of the token.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(["ingest", "read", "admin"]), default=("ingest", "read"),
    show_default=True, help="What it allows; may be given several times.",
)
@click.option(
    "--ttl", "ttl_s", type=click.IntRange(1, 31_536_000), default=3600, show_default=True, metavar="SECONDS",
    help="How long it is valid.",
)
def token(*, tenant: str, subject: str, scopes: tuple[str, ...], ttl_s: int) -> None:
    """Make a token for development, signed with STENOLOG_AUTH_SECRET.

    The token alone goes to standard output. In production an issuer of your own makes them.
    """
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
    """A token that edges with these settings accept."""
    now_s = int(time.time())
    claims = {"sub": subject, "tenant_id": tenant, "scope": " ".join(scopes), "iat": now_s, "exp": now_s + ttl_s}
    named = {"iss": settings.auth_issuer, "aud": settings.auth_audience}
    claims |= {name: value for name, value in named.items() if value}
    return jwt.encode(claims, settings.auth_secret, "HS256")
