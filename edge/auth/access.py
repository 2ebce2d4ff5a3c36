"""Authorisation: this module alone decides which scopes and sessions a caller may use."""

from __future__ import annotations

import enum
import hashlib
import secrets
import time
import uuid
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
from starlette.requests import HTTPConnection

from edge import errors
from edge.auth.limits import RequestLimit, check_origin
from edge.errors import ApiError
from edge.settings import EdgeSettings
from eventlog import keys as log_keys
from eventlog.keys import Keys, SessionKeys
from eventlog.redis.redis_log import LogPosition, RedisLog

TICKET_BYTES = 24
"""192 bits, as a resume token has."""


class Scope(enum.StrEnum):
    """A permission of a token; `ADMIN` includes the others."""

    INGEST = "ingest"
    """Open sessions, send audio, and read one's own sessions."""
    READ = "read"
    """Read the tenant's sessions."""
    ADMIN = "admin"
    """Delete sessions, and follow the status of those that other subjects of the tenant opened."""


class Principal(NamedTuple):
    """The authenticated caller."""

    subject: str
    tenant_id: str
    scopes: frozenset[Scope]
    expires_s: float | None = None
    """Unix time; None for never."""
    any_tenant: bool = False
    """An operator: may see the sessions of all tenants."""
    account_id: str | None = None
    """The account for which recordings are processed, if the token names one."""

    def is_of(self, tenant_id: str) -> bool:
        """Whether the principal belongs to this tenant, or may see all of them."""
        return self.any_tenant or self.tenant_id == tenant_id

    def may(self, scope: Scope) -> bool:
        """Whether `scope` is granted."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANONYMOUS = Principal("", "", frozenset(Scope), any_tenant=True)
"""Every caller while authentication is off, which only an edge that listens on loopback may have."""


class Authenticator(Protocol):
    """Finds out the caller."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Return the caller of this request or handshake.

        Raises:
            ApiError: `unauthorized` if it carries no valid token.
        """
        ...


class NoAuthentication:
    """Every caller may do everything."""

    async def authenticate(self, connection: HTTPConnection) -> Principal:  # noqa: ARG002 - the protocol's signature
        """See `Authenticator`."""
        return ANONYMOUS


class AccessibleSession(NamedTuple):
    """A session that the principal may see."""

    keys: SessionKeys
    log_position: LogPosition


class _Ticket(msgspec.Struct):
    """Content of a ticket, which admits to one session's event streams as the principal to which it was issued."""

    session_id: str
    subject: str
    tenant_id: str
    scopes: list[Scope]
    expires_s: float | None
    any_tenant: bool


class Access:
    """Decides which operations and sessions a principal may use."""

    def __init__(
        self, log: RedisLog, authenticator: Authenticator, settings: EdgeSettings,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Look sessions up in `log`; `authenticator` finds out the caller; `now` is the Unix time."""
        self._log = log
        self._server = log.server
        self._keys: Keys = log.server.keys
        self._authenticator = authenticator
        self._origins = frozenset(settings.allowed_origins)
        self._grace_s = settings.auth_grace_s
        self._requests = RequestLimit(log.server, per_minute=settings.requests_per_minute, now=now)
        self._now = now
        self.ticket_ttl_s = settings.ticket_ttl_s

    async def authorize(self, connection: HTTPConnection, scope: Scope | None) -> Principal:
        """Return the caller, if its token has `scope`.

        To read one session the scope `ingest` is enough here, since `find_session` then finds the caller's own alone.

        Raises:
            ApiError: `invalid_origin`, `unauthorized`, `forbidden` or `too_many_requests`.
        """
        check_origin(connection, self._origins)
        principal = await self._authenticator.authenticate(connection)
        reads_one = scope is Scope.READ and "session_id" in connection.path_params
        if not (reads_one and principal.may(Scope.INGEST)):
            require_scope(principal, scope)
        if scope is Scope.INGEST and principal.tenant_id:  # without authentication no tenants exist
            await self._requests.count(principal.tenant_id)
        return principal

    async def authorize_subscriber(
        self, connection: HTTPConnection, session_id: str, *, owner_only: bool
    ) -> tuple[Principal, AccessibleSession]:
        """Return the caller of a session's event stream, by token or by ``?ticket=``, and the session.

        `expires_in_s` of the principal bounds the stream.

        Raises:
            ApiError: `invalid_origin`, `unauthorized`, `forbidden` or `unknown_session`.
            LogUnavailableError: if Redis can't be reached.
        """
        ticket = connection.query_params.get("ticket")
        if ticket is None or "authorization" in connection.headers:
            principal = await self.authorize(connection, Scope.READ)
        else:
            check_origin(connection, self._origins)
            principal = await self._redeem_ticket(ticket, self._keys_of(session_id))
        connection.state.principal = principal
        return principal, await self.find_session(principal, session_id, owner_only=owner_only)

    async def issue_ticket(self, principal: Principal, session: AccessibleSession) -> str:
        """Make a ticket for the session's event streams, valid any number of times until it expires.

        Redis knows it by its hash, and forgets it by TTL.

        Raises:
            LogUnavailableError: if Redis can't be reached; the ticket is then worth nothing, or expires unused.
        """
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        content = _Ticket(
            session.keys.session_id, principal.subject, principal.tenant_id, sorted(principal.scopes),
            principal.expires_s, principal.any_tenant,
        )  # fmt: skip
        await self._server.execute("SET", _ticket_key(ticket), msgspec.json.encode(content), "EX", self.ticket_ttl_s)
        return ticket

    def expires_in_s(self, principal: Principal) -> float | None:
        """How long from now the principal's connections may stay open, grace included; None for no limit."""
        return None if principal.expires_s is None else principal.expires_s + self._grace_s - self._now()

    async def _redeem_ticket(self, ticket: str, session: SessionKeys) -> Principal:
        stored = await self._server.execute("GET", _ticket_key(ticket))
        if stored is None:
            raise ApiError(errors.UNAUTHORIZED, "the ticket is unknown or has expired; ask for a new one")
        content = msgspec.json.decode(stored, type=_Ticket)
        if content.session_id != session.session_id:
            raise ApiError(errors.UNAUTHORIZED, "the ticket is for another session")
        scopes = frozenset(content.scopes)
        return Principal(content.subject, content.tenant_id, scopes, content.expires_s, content.any_tenant)

    async def find_session(
        self, principal: Principal, session_id: str, *, owner_only: bool = False
    ) -> AccessibleSession:
        """Find the session, if the principal may see it; `owner_only`: only its owner, and an admin, may.

        Raises:
            ApiError: `unknown_session`, also for another principal's session: an answer reveals none that exists.
            LogUnavailableError: if Redis can't be reached.
        """
        keys = self._keys_of(session_id)
        position = await self._log.read_position(keys)
        if position is None or not may_see(principal, position, owner_only=owner_only):
            raise unknown_session()
        return AccessibleSession(keys, position)

    def _keys_of(self, session_id: str) -> SessionKeys:
        try:
            return self._keys.of(str(uuid.UUID(session_id)))
        except ValueError:
            raise unknown_session() from None


def require_scope(principal: Principal, scope: Scope | None) -> None:
    """Raise unless the principal has `scope`.

    Raises:
        ApiError: `forbidden`.
    """
    if scope is not None and not principal.may(scope):
        raise ApiError(errors.FORBIDDEN, f"the operation needs a token with scope {scope}")


def may_see(principal: Principal, session: LogPosition, *, owner_only: bool = False) -> bool:
    """Whether the session is of the principal's tenant, and its own unless it may read all of the tenant's."""
    if principal.any_tenant:
        return True
    if not principal.is_of(session.tenant_id):
        return False
    if session.owner_id == principal.subject or principal.may(Scope.ADMIN):
        return True
    return not owner_only and principal.may(Scope.READ)


def unknown_session() -> ApiError:
    """The error for a session that does not exist, and for another principal's."""
    return ApiError(errors.UNKNOWN_SESSION, "the session does not exist, or it has expired")


def _ticket_key(ticket: str) -> str:
    return log_keys.ticket(hashlib.sha256(ticket.encode()).hexdigest())
