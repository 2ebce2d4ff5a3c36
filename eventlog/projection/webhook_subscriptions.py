"""Webhook subscriptions: the addresses that get a tenant's events, and which ones.

They are stored in one hash per tenant, the secrets too, unhashed: a signature needs them.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import secrets
from collections.abc import Mapping, Sequence

import msgspec

from eventlog import keys
from eventlog.log import Code, LogUnavailableError
from eventlog.redis.scripts import script
from eventlog.redis.server import Server

KINDS = ("BatchProcessingCompleted", "BatchProcessingFailed", "TranscriptUtterance", "TranscriptEnded")
"""The events that a subscription can name."""

DEFAULT_KINDS = ("BatchProcessingCompleted", "BatchProcessingFailed", "TranscriptEnded")
"""The events of a subscription that names none: one per session, not one per utterance."""

MOST_SUBSCRIPTIONS = 20
"""Of one tenant: several teams with several systems each; every event is checked against each of them."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - how the Standard Webhooks specification marks one

SECRET_BYTES = range(24, 65)
"""The lengths that the Standard Webhooks specification recommends."""

NEW_SECRET_BYTES = 32
"""A longer key gains nothing with HMAC-SHA256."""

_LEAST_DISTINCT_BYTES = 12  # 24 random bytes have fewer about once in 10^9 times; "aaaa…" and the like do always

_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{32,86}={0,2}")


_log = logging.getLogger(__name__)


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription, as stored.

    Attributes:
        id: A UUID.
        url: Where its events go.
        kinds: Which they are.
        description: The owner's own text.
        secret: Signs its requests; ``whsec_`` and base64.
        created_ms: When it was made, Unix ms.
        disabled_ms: Since when its receiver refuses every event, Unix ms; 0 while it is in use.
        disabled_reason: The answer that showed it.
    """

    id: str
    url: str
    kinds: tuple[str, ...]
    description: str
    secret: str
    created_ms: int
    disabled_ms: int = 0
    disabled_reason: str = ""

    def __repr__(self) -> str:
        """Its id alone: neither secret nor address belongs into a log."""
        return f"Subscription({self.id})"


def new_secret() -> str:
    """Make a new random secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode()


def decode_secret(secret: str) -> bytes:
    """Decode a secret to the bytes that sign.

    Raises:
        ValueError: if it is malformed, or can be guessed; the message doesn't quote it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not _SECRET.fullmatch(secret) or len(key) not in SECRET_BYTES:
        raise ValueError(
            f"a secret is {SECRET_PREFIX} and the base64 of {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} random bytes"
        )
    if len(set(key)) < _LEAST_DISTINCT_BYTES:
        raise ValueError("the secret isn't random")
    return key


class Subscriptions:
    """The stored subscriptions; every method raises `LogUnavailableError` if Redis can't be reached."""

    def __init__(self, server: Server) -> None:
        """Store them on `server`."""
        self._server = server

    async def add(self, tenant_id: str, subscription: Subscription) -> bool:
        """Add one; False if the tenant has as many as it may have. Adding the same again changes nothing."""
        code = await self._server.run(
            script("add_webhook"), [keys.webhooks(tenant_id)],
            [MOST_SUBSCRIPTIONS, subscription.id, msgspec.json.encode(subscription)],
        )  # fmt: skip
        return Code(code) is not Code.FULL

    async def read(self, tenant_id: str) -> list[Subscription]:
        """Read a tenant's subscriptions, the oldest first."""
        found = (await self.read_many([tenant_id]))[tenant_id]
        if isinstance(found, LogUnavailableError):
            raise found
        return found

    async def read_many(self, tenant_ids: Sequence[str]) -> Mapping[str, list[Subscription] | LogUnavailableError]:
        """Read those of several tenants in one round trip, or the error that prevents it."""
        answers = await self._server.execute_many([("HGETALL", keys.webhooks(one)) for one in tenant_ids])
        return dict(zip(tenant_ids, map(_decode_all, answers), strict=True))

    async def find(self, tenant_id: str, subscription_id: str) -> Subscription | None:
        """Find one of a tenant's; None if it has no such."""
        value = await self._server.execute("HGET", keys.webhooks(tenant_id), subscription_id)
        return None if value is None else _decode(value)

    async def remove(self, tenant_id: str, subscription_id: str) -> bool:
        """Remove one, its secret included; False if it does not exist."""
        return bool(await self._server.execute("HDEL", keys.webhooks(tenant_id), subscription_id))

    async def replace(self, tenant_id: str, old: Subscription, new: Subscription) -> bool:
        """Put `new` in the place of `old`; False if that is gone, or has changed."""
        code = await self._server.run(
            script("replace_webhook"), [keys.webhooks(tenant_id)],
            [old.id, msgspec.json.encode(old), msgspec.json.encode(new)],
        )  # fmt: skip
        return Code(code) is Code.OK


def _decode(value: bytes) -> Subscription | None:
    """Decode a subscription; None if it is malformed, which must not keep events from all others."""
    try:
        return msgspec.json.decode(value, type=Subscription)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _log.error("webhook unreadable; skipping it", extra={"error": type(error).__name__})
        return None


def _decode_all(answer: list[bytes] | Mapping[bytes, bytes] | Exception) -> list[Subscription] | LogUnavailableError:
    if isinstance(answer, LogUnavailableError):
        return answer
    if isinstance(answer, Exception):
        raise answer
    values = answer.values() if isinstance(answer, Mapping) else answer[1::2]
    found = [one for one in map(_decode, values) if one is not None]
    return sorted(found, key=lambda one: (one.created_ms, one.id))
