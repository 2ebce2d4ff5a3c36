"""Authentication by a signed token (JWT): checks its signature, times and claims."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jwt
import msgspec
from starlette.requests import HTTPConnection

from edge import errors
from edge.auth.access import Principal, Scope
from edge.auth.bearer import bearer_token
from edge.errors import ApiError

ANY_TENANT = "*"
"""An operator's tenant."""

MOST_TOKEN_BYTES = 8192
"""As much as servers take of one header line; a token with many claims has two or three thousand."""

# Both go into Redis keys and log lines: no spaces, no control characters, and a bound.
_TENANT = re.compile(r"[A-Za-z0-9_.:@|+~=/-]{1,128}")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")  # RFC 7519 has no bound; OpenID Connect's is 255 ASCII characters


class VerificationKey(NamedTuple):
    """A key with its one algorithm, regardless of the algorithm in a token's header."""

    key: Any
    algorithm: str


class VerificationKeys(Protocol):
    """The keys that valid tokens may be signed with."""

    async def find(self, kid: str | None) -> VerificationKey | None:
        """Find the key that a token's header names; None if it is unknown.

        Raises:
            ApiError: `log_unavailable` if no key is known yet, since the issuer can't be reached.
        """
        ...


class SharedSecret:
    """HS256: every holder of the secret can make tokens."""

    def __init__(self, secret: str) -> None:
        """Accept tokens signed with `secret`, of which the settings require 32 bytes and more (RFC 7518, 3.2)."""
        self._key = VerificationKey(secret.encode(), "HS256")

    async def find(self, kid: str | None) -> VerificationKey | None:  # noqa: ARG002 - only one key exists
        """See `VerificationKeys`."""
        return self._key


class _Claims(msgspec.Struct):
    sub: str
    exp: float
    nbf: float | None = None
    scope: str | list[str] = ""
    tenant_id: str | None = None
    tenant: str | None = None
    account_id: str | None = None


class TokenAuthenticator:
    """Authenticates by ``Authorization: Bearer``, or on a WebSocket by subprotocol; never by the URL."""

    def __init__(
        self, keys: VerificationKeys, *, issuer: str = "", audience: str = "", leeway_s: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Accept tokens signed with one of `keys`, of this issuer and for this audience where they are given.

        `leeway_s` is how far the issuer's clock may be from `now` (Unix time).
        """
        self._keys = keys
        self._issuer = issuer or None
        self._audience = audience or None
        self._leeway_s = leeway_s
        self._now = now

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """See `edge.auth.access.Authenticator`."""
        token = bearer_token(connection)
        if token is None:
            raise ApiError(errors.UNAUTHORIZED, "the operation needs a token: Authorization: Bearer …")
        return self._principal(await self._claims(token))

    async def _claims(self, token: str) -> _Claims:
        try:
            key = await self._keys.find(_kid(token))
            if key is None:
                raise _refused("it is signed with an unknown key")
            payload = jwt.decode(
                token, key.key, algorithms=[key.algorithm], audience=self._audience, issuer=self._issuer,
                # `_principal` checks the times, by our own clock.
                options={
                    "require": ["sub", "exp"], "verify_exp": False, "verify_nbf": False, "verify_iat": False,
                    "verify_aud": self._audience is not None, "enforce_minimum_key_length": True,
                },
            )  # fmt: skip
            return msgspec.convert(payload, _Claims)
        except jwt.PyJWTError as error:
            raise _refused(_reason(error)) from None
        except msgspec.ValidationError:
            raise _refused("it has a claim of the wrong type") from None

    def _principal(self, claims: _Claims) -> Principal:
        now = self._now()
        if not math.isfinite(claims.exp) or claims.exp <= now - self._leeway_s:
            raise _refused("it has expired")
        if claims.nbf is not None and not claims.nbf <= now + self._leeway_s:
            raise _refused("it is not valid yet")
        scopes = _scopes(claims.scope)
        tenant_id = _tenant(claims)
        is_operator = tenant_id == ANY_TENANT and Scope.ADMIN in scopes
        if not is_operator and not _TENANT.fullmatch(tenant_id):
            raise _refused("its tenant is missing or malformed (claim tenant_id)")
        if not _SUBJECT.fullmatch(claims.sub):
            raise _refused("its subject is malformed (claim sub)")
        if claims.account_id and not _SUBJECT.fullmatch(claims.account_id):
            raise _refused("its account is malformed (claim account_id)")
        return Principal(claims.sub, tenant_id, scopes, claims.exp, is_operator, claims.account_id or None)


def _kid(token: str) -> str | None:
    if len(token) > MOST_TOKEN_BYTES or not token.isascii():
        raise _refused("it is not a JWT")
    kid: str | None = jwt.get_unverified_header(token).get("kid")
    return kid


def _scopes(given: str | list[str]) -> frozenset[Scope]:
    # A token's other scopes are for other services.
    names = given.split() if isinstance(given, str) else given
    return frozenset(scope for scope in Scope if scope.value in names)


def _tenant(claims: _Claims) -> str:
    if claims.tenant_id is not None and claims.tenant not in {None, claims.tenant_id}:
        raise _refused("tenant_id and tenant differ")
    return claims.tenant_id or claims.tenant or ""


def _reason(error: jwt.PyJWTError) -> str:
    """Describe the failure in our own words, since PyJWT's may quote the token."""
    match error:
        case jwt.MissingRequiredClaimError():
            return f"its claim {error.claim} is missing"
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.InvalidIssuerError():
            return "it is from another issuer"
        case jwt.InvalidAlgorithmError():
            return "its signature algorithm is not accepted"
        case jwt.InvalidSignatureError():
            return "its signature is invalid"
        case _:
            return "it is not a JWT that can be verified"


def _refused(reason: str) -> ApiError:
    return ApiError(errors.UNAUTHORIZED, f"the token is not accepted: {reason}")
