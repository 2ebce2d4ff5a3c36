"""Who asks, and what they may: scopes and tenants are checked here and nowhere else."""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from starlette.requests import HTTPConnection

from edge import errors
from edge.errors import WireError
from edge.parameters import canonical_session_id
from eventlog.keys import Keys, SessionKeys
from eventlog.redis_log import RedisLog, Whereabouts


class Scope(enum.StrEnum):
    """What a token allows; `ADMIN` includes the others."""

    INGEST = "ingest"
    """Open sessions, send audio, and read those of one's own."""
    READ = "read"
    """Read the tenant's sessions."""
    ADMIN = "admin"
    """Delete sessions, and hear the status of those that others of the tenant opened."""


class Principal(NamedTuple):
    """Who asks."""

    subject: str
    tenant_id: str
    scopes: frozenset[Scope]
    expires_s: float | None = None
    """Unix time; None for never."""
    any_tenant: bool = False
    """An operator, who sees all tenants' sessions."""

    def may(self, scope: Scope) -> bool:
        """Whether `scope` is granted."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYBODY = Principal("", "", frozenset(Scope), any_tenant=True)
"""Whoever asks while authentication is off, which only a listener on loopback may have."""


class Authenticator(Protocol):
    """Tells who asks."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Who is behind this request or handshake.

        Raises:
            WireError: `unauthorized` if it carries no valid token.
        """
        ...


class NoAuthentication:
    """Everybody may do everything."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:  # noqa: ARG002 - the protocol's signature
        """See `Authenticator`."""
        return ANYBODY


class Found(NamedTuple):
    """A session that the principal may see."""

    keys: SessionKeys
    whereabouts: Whereabouts


class Access:
    """The one place where it is decided what a principal may do, and with which sessions."""

    def __init__(self, log: RedisLog, authenticator: Authenticator) -> None:
        """Look sessions up in `log`; `authenticator` says who asks."""
        self._log = log
        self._keys: Keys = log.server.keys
        self._authenticator = authenticator

    async def principal(self, connection: HTTPConnection, scope: Scope | None) -> Principal:
        """Who asks, if they may do what takes `scope`.

        Raises:
            WireError: `unauthorized` or `forbidden`.
        """
        principal = await self._authenticator.authenticate(connection)
        require(principal, scope)
        return principal

    async def session(self, principal: Principal, session_id: str, *, owner_only: bool = False) -> Found:
        """The session, if the principal may see it; `owner_only`: not everybody of its tenant may.

        Raises:
            WireError: `unknown_session`, also for what is somebody else's: nobody is told that it exists.
            LogUnavailableError: if Redis can't be reached.
        """
        try:
            keys = self._keys.of(canonical_session_id(session_id))
        except WireError:
            raise unknown_session() from None
        whereabouts = await self._log.whereabouts(keys)
        if whereabouts is None or not sees(principal, whereabouts, owner_only=owner_only):
            raise unknown_session()
        return Found(keys, whereabouts)


def require(principal: Principal, scope: Scope | None) -> None:
    """Raise unless the principal has `scope`.

    Raises:
        WireError: `forbidden`.
    """
    if scope is not None and not principal.may(scope):
        raise WireError(errors.FORBIDDEN, f"this needs a token with scope {scope}")


def sees(principal: Principal, session: Whereabouts, *, owner_only: bool = False) -> bool:
    """Whether the session is the principal's to see: of its tenant, and its own unless it may read all of them."""
    if principal.any_tenant:
        return True
    if session.tenant_id != principal.tenant_id:
        return False
    if session.owner_id == principal.subject or principal.may(Scope.ADMIN):
        return True
    return not owner_only and principal.may(Scope.READ)


def unknown_session() -> WireError:
    """What is said of a session that isn't there, and of one that is somebody else's."""
    return WireError(errors.UNKNOWN_SESSION, "there is no such session, or it has expired")
