"""Who asks, and what they may: scopes and tenants are checked here and nowhere else."""

from __future__ import annotations

import enum
import hashlib
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
from starlette.requests import HTTPConnection

from edge import errors
from edge.auth import ticket_store
from edge.auth.limits import RequestLimit, check_origin
from edge.errors import ApiError
from edge.session_id import canonical_session_id
from edge.settings import EdgeSettings
from eventlog.keys import Keys, SessionKeys
from eventlog.redis.redis_log import LogPosition, RedisLog

TICKET_BYTES = 24
"""192 bits, as a resume token has."""


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
    account_id: str | None = None
    """Which account recordings are processed for, if the token says so."""

    def is_of(self, tenant_id: str) -> bool:
        """Whether what belongs to this tenant may concern the principal at all."""
        return self.any_tenant or self.tenant_id == tenant_id

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
            ApiError: `unauthorized` if it carries no valid token.
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
    whereabouts: LogPosition


class _Ticket(msgspec.Struct):
    """What a ticket allows: to listen to one session as whoever asked for it."""

    session_id: str
    subject: str
    tenant_id: str
    scopes: list[Scope]
    expires_s: float | None
    any_tenant: bool


class Access:
    """The one place where it is decided what a principal may do, and with which sessions."""

    def __init__(
        self, log: RedisLog, authenticator: Authenticator, settings: EdgeSettings,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Look sessions up in `log`; `authenticator` says who asks, `now` the Unix time."""
        self._log = log
        self._keys: Keys = log.server.keys
        self._authenticator = authenticator
        self._origins = frozenset(settings.allowed_origins)
        self._grace_s = settings.auth_grace_s
        self._requests = RequestLimit(log.server, per_minute=settings.requests_per_minute, now=now)
        self._now = now
        self.ticket_ttl_s = settings.ticket_ttl_s

    async def principal(self, connection: HTTPConnection, scope: Scope | None) -> Principal:
        """Who asks, if they may do what takes `scope`.

        To read one session the scope `ingest` is enough here, since `session` then finds the caller's own alone.

        Raises:
            ApiError: `invalid_origin`, `unauthorized`, `forbidden` or `too_many_requests`.
        """
        check_origin(connection, self._origins)
        principal = await self._authenticator.authenticate(connection)
        reads_one = scope is Scope.READ and "session_id" in connection.path_params
        if not (reads_one and principal.may(Scope.INGEST)):
            require(principal, scope)
        if scope is Scope.INGEST and principal.tenant_id:  # without authentication there are no tenants
            await self._requests.count(principal.tenant_id)
        return principal

    async def listener(
        self, connection: HTTPConnection, session_id: str, *, owner_only: bool
    ) -> tuple[Principal, Found]:
        """Who asks for a session's event stream, by token or by ``?ticket=``, and the session, if they may have it.

        What `lapses_in_s` says of the principal bounds the stream.

        Raises:
            ApiError: `invalid_origin`, `unauthorized`, `forbidden` or `unknown_session`.
            LogUnavailableError: if Redis can't be reached.
        """
        ticket = connection.query_params.get("ticket")
        if ticket is None or "authorization" in connection.headers:
            principal = await self.principal(connection, Scope.READ)
        else:
            check_origin(connection, self._origins)
            principal = await self._redeemed(ticket, self._keys_of(session_id))
        connection.state.principal = principal
        return principal, await self.session(principal, session_id, owner_only=owner_only)

    async def issue_ticket(self, principal: Principal, found: Found) -> str:
        """A ticket to listen to the session with, any number of times until it expires.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        allows = _Ticket(
            found.keys.session_id, principal.subject, principal.tenant_id, sorted(principal.scopes),
            principal.expires_s, principal.any_tenant,
        )  # fmt: skip
        await ticket_store.keep(self._log.server, _hashed(ticket), msgspec.json.encode(allows), ttl_s=self.ticket_ttl_s)
        return ticket

    def lapses_in_s(self, principal: Principal) -> float | None:
        """How long what the principal has opened may stay open from now on; None for as long as it likes."""
        return None if principal.expires_s is None else principal.expires_s + self._grace_s - self._now()

    async def _redeemed(self, ticket: str, session: SessionKeys) -> Principal:
        kept = await ticket_store.find(self._log.server, _hashed(ticket))
        if kept is None:
            raise ApiError(errors.UNAUTHORIZED, "the ticket is unknown or has expired; ask for a new one")
        allows = msgspec.json.decode(kept, type=_Ticket)
        if allows.session_id != session.session_id:
            raise ApiError(errors.UNAUTHORIZED, "the ticket is for another session")
        scopes = frozenset(allows.scopes)
        return Principal(allows.subject, allows.tenant_id, scopes, allows.expires_s, allows.any_tenant)

    async def session(self, principal: Principal, session_id: str, *, owner_only: bool = False) -> Found:
        """The session, if the principal may see it; `owner_only`: not everybody of its tenant may.

        Raises:
            ApiError: `unknown_session`, also for what is somebody else's: nobody is told that it exists.
            LogUnavailableError: if Redis can't be reached.
        """
        keys = self._keys_of(session_id)
        whereabouts = await self._log.whereabouts(keys)
        if whereabouts is None or not sees(principal, whereabouts, owner_only=owner_only):
            raise unknown_session()
        return Found(keys, whereabouts)

    def _keys_of(self, session_id: str) -> SessionKeys:
        try:
            return self._keys.of(canonical_session_id(session_id))
        except ApiError:
            raise unknown_session() from None


def require(principal: Principal, scope: Scope | None) -> None:
    """Raise unless the principal has `scope`.

    Raises:
        ApiError: `forbidden`.
    """
    if scope is not None and not principal.may(scope):
        raise ApiError(errors.FORBIDDEN, f"this needs a token with scope {scope}")


def sees(principal: Principal, session: LogPosition, *, owner_only: bool = False) -> bool:
    """Whether the session is the principal's to see: of its tenant, and its own unless it may read all of them."""
    if principal.any_tenant:
        return True
    if not principal.is_of(session.tenant_id):
        return False
    if session.owner_id == principal.subject or principal.may(Scope.ADMIN):
        return True
    return not owner_only and principal.may(Scope.READ)


def unknown_session() -> ApiError:
    """What is said of a session that isn't there, and of one that is somebody else's."""
    return ApiError(errors.UNKNOWN_SESSION, "there is no such session, or it has expired")


def _hashed(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
