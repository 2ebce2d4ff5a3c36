"""Delivers one event to one subscription: a signed request, and its consequences for both."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable

import msgspec

from eventlog.log import LogUnavailableError
from eventlog.projection.webhook_subscriptions import Subscription, Subscriptions, decode_secret
from eventlog.projection.webhook_targets import UnfitAddressError, parse_target
from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Event
from projections.webhooks.circuit_breaker import CircuitBreaker
from projections.webhooks.poster import MOST_CONNECTIONS, Answer, Poster
from projections.webhooks.signing import payload, signed_headers
from projections.webhooks.subscription_cache import SubscriptionCache

MOST_AT_ONCE = 16
"""Requests to one subscription: 160 events a second to a receiver that answers within 100 ms, and with as many
subscriptions as it may have, one tenant can't take all connections."""

_MS = 1000

_log = logging.getLogger(__name__)


class Deliverer:
    """Delivers; safe for concurrent use."""

    def __init__(
        self, poster: Poster, subscriptions: Subscriptions, cache: SubscriptionCache, *, private: bool,
        now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Deliver by `poster`.

        Args:
            poster: Makes the requests.
            subscriptions: Where a subscription is disabled once its receiver is gone.
            cache: Forgets it then.
            private: Whether plain HTTP and addresses that aren't public are allowed.
            now: Unix time, s.
            clock: A time that only goes forward, s.
        """
        self._poster = poster
        self._subscriptions = subscriptions
        self._cache = cache
        self._private = private
        self._now = now
        self._breaker = CircuitBreaker(clock)
        self._all = asyncio.Semaphore(MOST_CONNECTIONS)
        self._each: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    def failing_s(self, subscription: Subscription) -> float:
        """For how long its receiver has been failing; 0 if it isn't."""
        return self._breaker.failing_s(subscription.id)

    async def deliver(
        self, event: Event, subscription: Subscription, is_wanted: Callable[[], bool] = lambda: True
    ) -> Result:
        """Try once, if that `is_wanted` when its turn has come.

        SENT, REJECTED and SKIPPED are final; RETRY also while the circuit is open, without any request.
        """
        each = self._each.setdefault(subscription.id, asyncio.Semaphore(MOST_AT_ONCE))
        async with each, self._all:
            if not is_wanted():
                return _result(Outcome.RETRY, subscription, "too many requests are under way")
            # Asked only now: while this one waited its turn, others may have found that the receiver fails.
            if not self._breaker.allows_request(subscription.id):
                return _result(Outcome.RETRY, subscription, self._breaker.reason(subscription.id))
            try:
                return await self._request(event, subscription)
            finally:
                self._breaker.release(subscription.id)

    async def _request(self, event: Event, subscription: Subscription) -> Result:
        try:
            target = parse_target(subscription.url, private=self._private)
            key = decode_secret(subscription.secret)
        except UnfitAddressError as error:  # it was fit when the tenant gave it, under other settings
            return _result(Outcome.REJECTED, subscription, f"nothing is sent to such an address: {error}")
        except ValueError as error:
            return _result(Outcome.REJECTED, subscription, str(error))
        body = payload(event)
        headers = signed_headers(key, event.event_id, int(self._now()), body)
        answer = await self._poster.post(target, headers, body)
        about = {
            "webhook_id": subscription.id, "event_id": event.event_id, "session_id": event.session_id,
            "kind": str(event.kind), "bytes": len(body), "status": answer.status,
        }  # fmt: skip
        result = await self._judge(answer, event, subscription)
        level = logging.WARNING if result.outcome is Outcome.REJECTED else logging.DEBUG
        _log.log(level, "webhook %s", result.outcome.value, extra={**about, "reason": result.reason})
        return result

    async def _judge(self, answer: Answer, event: Event, subscription: Subscription) -> Result:
        if answer.is_transient:
            if self._breaker.record_failure(subscription.id, answer.reason, answer.retry_after_s):
                about = {"webhook_id": subscription.id, "reason": answer.reason}
                _log.warning("webhook failing; circuit opened", extra=about)
            return _result(Outcome.RETRY, subscription, answer.reason)
        self._breaker.record_success(subscription.id)
        if answer.is_success:
            return SENT
        if answer.is_gone:
            await self._disable(event.tenant_id, subscription, answer.reason)
            return _result(Outcome.SKIPPED, subscription, answer.reason)
        return _result(Outcome.REJECTED, subscription, answer.reason)

    async def _disable(self, tenant_id: str, subscription: Subscription, reason: str) -> None:
        disabled = msgspec.structs.replace(
            subscription, disabled_ms=int(self._now() * _MS), disabled_reason=f"its receiver {reason}"
        )
        try:
            if await self._subscriptions.replace(tenant_id, subscription, disabled):
                _log.warning("webhook disabled", extra={"webhook_id": subscription.id, "reason": reason})
        except LogUnavailableError as error:
            # It stays in use, so its next event comes here again.
            about = {"webhook_id": subscription.id, "error": type(error).__name__}
            _log.warning("webhook not disabled; retrying", extra=about)
        self._cache.forget(tenant_id)


def _result(outcome: Outcome, subscription: Subscription, reason: str) -> Result:
    return Result(outcome, f"webhook {subscription.id}: {reason}")
