"""Webhook subscriptions of a tenant: create, list, delete. The webhooks projection sends to them."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Principal, Scope
from edge.contract.operations import JSON, Answer, Body, Operation, Parameter, json_response, principal_of
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.server.request_body import read_body
from eventlog.projection.webhook_subscriptions import (
    DEFAULT_KINDS,
    KINDS,
    MOST_SUBSCRIPTIONS,
    Subscription,
    Subscriptions,
    decode_secret,
    new_secret,
)
from eventlog.projection.webhook_targets import MOST_URL_CHARACTERS, UnfitAddressError, parse_target
from eventlog.readmodel.statuses import format_iso

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16_384
"""Several times the longest address, description and secret."""

BODY_TIMEOUT_S = 10.0
"""For a body that arrives in one packet."""

_MS = 1000

_TENANT = r"^[A-Za-z0-9_.:@|+~=/-]{1,128}$"  # as tokens may name one

Kind = Annotated[str, Meta(pattern=f"^({'|'.join(KINDS)})$")]
Description = Annotated[str, Meta(max_length=200)]


class WebhookOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The wanted subscription."""

    url: Annotated[str, Meta(min_length=1, max_length=MOST_URL_CHARACTERS, description="Where events are posted.")]
    kinds: Annotated[tuple[Kind, ...], Meta(min_length=1, max_length=len(KINDS))] = DEFAULT_KINDS
    description: Description = ""
    secret: Annotated[
        str | None, Meta(description="`whsec_` and the base64 of 24 to 64 random bytes; generated unless given.")
    ] = None


class Webhook(msgspec.Struct, kw_only=True):
    """A subscription."""

    id: str
    url: str
    kinds: list[str]
    description: str
    created_at: str
    disabled_at: str | None
    """Since when no event is sent any more; null while it is in use."""
    disabled_reason: str | None


class NewWebhook(Webhook, kw_only=True):
    """A new subscription."""

    secret: str
    """The key that signs its requests; no later answer has it."""


class WebhookList(msgspec.Struct):
    """All of a tenant's subscriptions, the oldest first."""

    webhooks: list[Webhook]


_ID = Parameter("webhook_id", "path", {"type": "string", "format": "uuid"}, "The subscription's id.", required=True)
_TENANT_QUERY = Parameter(
    "tenant", "query", {"type": "string", "pattern": _TENANT},
    "The tenant: operators must name it, other callers need not. Without authentication, the `X-Tenant-ID` of "
    "recordings, or none.",
)  # fmt: skip
_REFUSED = (errors.INVALID_QUERY,)


class Webhooks:
    """``/v1/webhooks`` and below."""

    def __init__(self, core: EdgeCore, now: Callable[[], float] = time.time) -> None:
        """Store them on the server of `core`; `now` is the Unix time."""
        self._subscriptions = Subscriptions(core.server)
        self._private = core.settings.webhook_allow_private
        self._now = now

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "POST", "/v1/webhooks", "create_webhook", "Webhooks", "Subscribe to a tenant's events.",
                self.create, Scope.ADMIN,
                [Answer(201, "It, and this once its secret.", {JSON: NewWebhook})], [_TENANT_QUERY],
                Body({JSON: WebhookOptions}, "The address, and the kinds of events."),
                [errors.INVALID_REQUEST, errors.INVALID_ADDRESS, errors.WEBHOOK_LIMIT_EXCEEDED, *_REFUSED],
                "Events that happen later than some seconds from now are posted to it, signed as the Standard Webhooks "
                f"specification says. A tenant may have {MOST_SUBSCRIPTIONS}.",
            ),
            Operation(
                "GET", "/v1/webhooks", "list_webhooks", "Webhooks", "A tenant's subscriptions.", self.list_all,
                Scope.ADMIN, [Answer(200, "The subscriptions.", {JSON: WebhookList})], [_TENANT_QUERY], errors=_REFUSED,
            ),
            Operation(
                "GET", "/v1/webhooks/{webhook_id}", "get_webhook", "Webhooks", "One subscription.", self.one,
                Scope.ADMIN,
                [Answer(200, "It.", {JSON: Webhook})], [_ID, _TENANT_QUERY], errors=[errors.UNKNOWN_WEBHOOK, *_REFUSED],
                description="A subscription whose receiver answered 410 is disabled: delete it, and create another to "
                "continue.",
            ),
            Operation(
                "DELETE", "/v1/webhooks/{webhook_id}", "delete_webhook", "Webhooks", "Unsubscribe.", self.delete,
                Scope.ADMIN, [Answer(204, "Deleted with its secret; a request under way may still arrive.")],
                [_ID, _TENANT_QUERY], errors=[errors.UNKNOWN_WEBHOOK, *_REFUSED],
            ),
        )  # fmt: skip

    async def create(self, request: Request) -> Response:
        """See `operations`."""
        tenant_id = _tenant(request)
        options = await _options(request)
        try:
            parse_target(options.url, private=self._private)
        except UnfitAddressError as error:
            raise ApiError(errors.INVALID_ADDRESS, f"the address is not accepted: {error}") from None
        secret = new_secret() if options.secret is None else options.secret
        try:
            decode_secret(secret)
        except ValueError as error:
            raise ApiError(errors.INVALID_REQUEST, str(error)) from None
        created = Subscription(
            id=str(uuid.uuid4()), url=options.url, kinds=tuple(kind for kind in KINDS if kind in options.kinds),
            description=options.description, secret=secret, created_ms=int(self._now() * _MS),
        )  # fmt: skip
        if not await self._subscriptions.add(tenant_id, created):
            raise ApiError(errors.WEBHOOK_LIMIT_EXCEEDED, f"the tenant has {MOST_SUBSCRIPTIONS} subscriptions")
        _log("webhook created", request, created.id)
        return json_response(NewWebhook(secret=secret, **msgspec.structs.asdict(_view(created))), 201)

    async def list_all(self, request: Request) -> Response:
        """See `operations`."""
        found = await self._subscriptions.read(_tenant(request))
        return json_response(WebhookList([_view(one) for one in found]))

    async def one(self, request: Request) -> Response:
        """See `operations`."""
        tenant_id = _tenant(request)
        found = await self._subscriptions.find(tenant_id, _webhook_id(request))
        if found is None:
            raise _unknown()
        return json_response(_view(found))

    async def delete(self, request: Request) -> Response:
        """See `operations`."""
        tenant_id, webhook_id = _tenant(request), _webhook_id(request)
        if not await self._subscriptions.remove(tenant_id, webhook_id):
            raise _unknown()
        _log("webhook deleted", request, webhook_id)
        return Response(status_code=204)


def _view(subscription: Subscription) -> Webhook:
    return Webhook(
        id=subscription.id, url=subscription.url, kinds=list(subscription.kinds), description=subscription.description,
        created_at=format_iso(subscription.created_ms),
        disabled_at=format_iso(subscription.disabled_ms) if subscription.disabled_ms else None,
        disabled_reason=subscription.disabled_reason or None,
    )  # fmt: skip


def _log(message: str, request: Request, webhook_id: str) -> None:
    # Without its address: some receivers' addresses contain their password.
    logger.info(message, extra={"webhook_id": webhook_id, "subject": principal_of(request).subject})


def _tenant(request: Request) -> str:
    """The tenant whose subscriptions are requested; empty without authentication, unless the query names one."""
    principal: Principal = principal_of(request)
    wanted = request.query_params.get("tenant")
    if wanted is not None and not re.fullmatch(_TENANT, wanted):
        raise ApiError(errors.INVALID_QUERY, "tenant must be 1 to 128 letters, digits and _.:@|+~=/-")
    if not principal.any_tenant:
        if wanted not in {None, principal.tenant_id}:
            raise ApiError(errors.FORBIDDEN, "only an operator may name another tenant")
        return principal.tenant_id
    if not principal.tenant_id:
        return _canonical(wanted or "")
    if wanted is None:
        raise ApiError(errors.INVALID_QUERY, "an operator must name the tenant")
    return wanted


def _canonical(tenant_id: str) -> str:
    """Write a UUID as the tenants of recordings are written."""
    try:
        return str(uuid.UUID(tenant_id))
    except ValueError:
        return tenant_id


def _webhook_id(request: Request) -> str:
    try:
        return str(uuid.UUID(request.path_params["webhook_id"]))
    except ValueError:
        raise _unknown() from None


def _unknown() -> ApiError:
    return ApiError(errors.UNKNOWN_WEBHOOK, "the tenant has no such subscription")


async def _options(request: Request) -> WebhookOptions:
    body = await read_body(request, MAX_BODY_BYTES, BODY_TIMEOUT_S)
    try:
        return msgspec.json.decode(body, type=WebhookOptions)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(errors.INVALID_REQUEST, f"the body must be a JSON object as documented: {error}") from None
