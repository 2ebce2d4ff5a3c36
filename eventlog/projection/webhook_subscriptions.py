"""Webhook subscriptions: who is told of which events of a tenant, and where.

They lie in one hash per tenant. The secrets lie there too, as they are: a signature needs them.
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
"""The events that there are."""

DEFAULT_KINDS = ("BatchProcessingCompleted", "BatchProcessingFailed", "TranscriptEnded")
"""What a subscription is told of that names none: one event per session, not one per sentence."""

MOST_SUBSCRIPTIONS = 20
"""Of one tenant: several teams with several systems each; every event is looked at once for each of them."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - how the Standard Webhooks specification marks one

SECRET_BYTES = range(24, 65)
"""As many as that specification recommends."""

NEW_SECRET_BYTES = 32
"""What HMAC-SHA256 gains from."""

_LEAST_DISTINCT_BYTES = 12  # 24 random bytes have fewer about once in 10^9 times; "aaaa…" and the like do always

_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{32,86}={0,2}")


_log = logging.getLogger(__name__)


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription, as stored.

    Attributes:
        id: A UUID.
        url: Where its events go.
        kinds: Which they are.
        description: Whatever its owner says of it.
        secret: What its requests are signed with, ``whsec_`` and base64.
        created_ms: When it was made, Unix ms.
        disabled_ms: Since when its receiver wants nothing more, Unix ms; 0 while it is in use.
        disabled_reason: How that is known.
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
    """A secret that nobody has."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode()


def secret_key(secret: str) -> bytes:
    """The bytes to sign with.

    Raises:
        ValueError: if it is no secret, or one that can be guessed; the message doesn't quote it.
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
    """The subscriptions of all tenants; every method raises `LogUnavailableError` if Redis can't be reached."""

    def __init__(self, server: Server) -> None:
        """Keep them on `server`."""
        self._server = server

    async def add(self, tenant_id: str, subscription: Subscription) -> bool:
        """Keep one more; False if the tenant has as many as it may have. Adding the same again changes nothing."""
        code = await self._server.run(
            script("add_webhook"), [keys.webhooks(tenant_id)],
            [MOST_SUBSCRIPTIONS, subscription.id, msgspec.json.encode(subscription)],
        )  # fmt: skip
        return Code(code) is not Code.FULL

    async def of(self, tenant_id: str) -> list[Subscription]:
        """A tenant's, the oldest first."""
        found = (await self.of_many([tenant_id]))[tenant_id]
        if isinstance(found, LogUnavailableError):
            raise found
        return found

    async def of_many(self, tenant_ids: Sequence[str]) -> Mapping[str, list[Subscription] | LogUnavailableError]:
        """Those of several tenants, or why they aren't known, in one round trip."""
        answers = await self._server.execute_many([("HGETALL", keys.webhooks(one)) for one in tenant_ids])
        return dict(zip(tenant_ids, map(_decoded, answers), strict=True))

    async def find(self, tenant_id: str, subscription_id: str) -> Subscription | None:
        """One of a tenant's; None if it has no such."""
        value = await self._server.execute("HGET", keys.webhooks(tenant_id), subscription_id)
        return None if value is None else _read(value)

    async def remove(self, tenant_id: str, subscription_id: str) -> bool:
        """Forget one, its secret included; False if there is no such."""
        return bool(await self._server.execute("HDEL", keys.webhooks(tenant_id), subscription_id))

    async def replace(self, tenant_id: str, old: Subscription, new: Subscription) -> bool:
        """Put `new` in the place of `old`; False if that isn't there any more, or is another by now."""
        code = await self._server.run(
            script("replace_webhook"), [keys.webhooks(tenant_id)],
            [old.id, msgspec.json.encode(old), msgspec.json.encode(new)],
        )  # fmt: skip
        return Code(code) is Code.OK


def _read(value: bytes) -> Subscription | None:
    """The subscription, unless somebody else wrote there: that must not keep events from all others."""
    try:
        return msgspec.json.decode(value, type=Subscription)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _log.error("webhook can't be read", extra={"error": type(error).__name__})
        return None


def _decoded(answer: list[bytes] | Mapping[bytes, bytes] | Exception) -> list[Subscription] | LogUnavailableError:
    if isinstance(answer, LogUnavailableError):
        return answer
    if isinstance(answer, Exception):
        raise answer
    values = answer.values() if isinstance(answer, Mapping) else answer[1::2]
    found = [one for one in map(_read, values) if one is not None]
    return sorted(found, key=lambda one: (one.created_ms, one.id))
