"""Authentication, tokens and request limits."""

from typing import Annotated, Literal

from stenolog.settings.groups.general import General
from stenolog.settings.groups.metadata import number, text


class Access(General, frozen=True, kw_only=True):
    """Authentication, tokens and request limits."""

    auth: Annotated[Literal["off", "hs256", "jwks"], text(
        "Access", "How tokens (JWT) are checked: with the secret `auth_secret`, or with the issuer's public keys "
        "`auth_jwks` (RS256, ES256). `off` only on a loopback `host`.")] = "off"
    auth_secret: Annotated[str, text(
        "Access", "Secret of HS256 tokens, 32 bytes or more: a shorter one can be guessed from any token.")] = ""
    auth_jwks: Annotated[str, text(
        "Access", "Address (`https://…`) or file of the issuer's key set. Fetched when needed, kept while the issuer "
        "is unreachable.")] = ""
    auth_issuer: Annotated[str, text(
        "Access", "Issuer (`iss`) that tokens must name. Unset: any.")] = ""
    auth_audience: Annotated[str, text(
        "Access", "Audience (`aud`) that tokens must name. Unset: any.")] = ""
    auth_leeway_s: Annotated[float, number(
        "Access", "s", "How far the issuer's clock may differ from ours. Hosts that keep time by NTP differ by less.",
        least=0, most=300)] = 5.0
    auth_grace_s: Annotated[float, number(
        "Access", "s", "How long an open stream stays open after its token has expired. Longer than most "
        "conversations, so that none is cut by an expiry.", least=0)] = 3600.0
    ticket_ttl_s: Annotated[int, number(
        "Access", "s", "Life of a ticket for event streams. Long enough to open one and to reconnect, short enough "
        "that one in a proxy's log is worth nothing.", least=5, most=3600)] = 60
    resume_token_ttl_s: Annotated[int, number(
        "Access", "s", "How long a resume token is valid after its last use, if the session lives so long. A longer "
        "absence counts as an abandoned session.", least=60)] = 3600
    requests_per_minute: Annotated[int, number(
        "Access", "requests", "Requests with scope `ingest` that a tenant may make in a minute; 0 for any number. Ten "
        "clients that send ten chunks a second each by HTTP.", least=0)] = 6000
    allowed_origins: Annotated[tuple[str, ...], text(
        "Access", "Origins of other sites whose pages may connect, such as `https://app.example.com`, separated by "
        "commas; `*` for all. Unset: only pages from the edge's own host.")] = ()
