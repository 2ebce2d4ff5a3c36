"""One event to one subscription: a signed request, and what its answer means for the event and for the subscription."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable

import msgspec

from eventlog.log import LogUnavailableError
from eventlog.projection.webhook_subscriptions import Subscription, Subscriptions, secret_key
from eventlog.projection.webhook_targets import UnfitAddressError, target_of
from projections.forwarding.sink import SENT, Outcome, Verdict
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
        self, poster: Poster, subscriptions: Subscriptions, subscribed: SubscriptionCache, *, private: bool,
        now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Deliver by `poster`.

        Args:
            poster: As said.
            subscriptions: Where those are disabled that are gone.
            subscribed: What forgets them then.
            private: Whether plain HTTP and addresses that aren't public are let pass.
            now: Unix time, s.
            clock: A time that only goes forward, s.
        """
        self._poster = poster
        self._subscriptions = subscriptions
        self._subscribed = subscribed
        self._private = private
        self._now = now
        self._rests = CircuitBreaker(clock)
        self._all = asyncio.Semaphore(MOST_CONNECTIONS)
        self._each: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    def failing_s(self, subscription: Subscription) -> float:
        """For how long nothing has succeeded there; 0 if nothing has failed since."""
        return self._rests.failing_s(subscription.id)

    async def deliver(
        self, event: Event, subscription: Subscription, is_wanted: Callable[[], bool] = lambda: True
    ) -> Verdict:
        """Try once, if that `is_wanted` when its turn has come.

        SENT, NEVER and OFF are for good; LATER also while the receiver rests, without any request.
        """
        each = self._each.setdefault(subscription.id, asyncio.Semaphore(MOST_AT_ONCE))
        async with each, self._all:
            # Asked only now: while this one waited its turn, others may have found that the receiver fails.
            reason = self._rests.reason(subscription.id) if is_wanted() else "too many requests are under way"
            if reason is not None:
                return _verdict(Outcome.LATER, subscription, reason)
            try:
                return await self._tried(event, subscription)
            finally:
                self._rests.untried(subscription.id)

    async def _tried(self, event: Event, subscription: Subscription) -> Verdict:
        try:
            target = target_of(subscription.url, private=self._private)
            key = secret_key(subscription.secret)
        except UnfitAddressError as error:  # it was fit when it was given, under other settings
            return _verdict(Outcome.NEVER, subscription, f"nothing is sent to such an address: {error}")
        except ValueError as error:
            return _verdict(Outcome.NEVER, subscription, str(error))
        body = payload(event)
        headers = signed_headers(key, event.event_id, int(self._now()), body)
        answer = await self._poster.post(target, headers, body)
        about = {
            "webhook_id": subscription.id, "event_id": event.event_id, "session_id": event.session_id,
            "kind": str(event.kind), "bytes": len(body), "status": answer.status,
        }  # fmt: skip
        verdict = await self._judged(answer, event, subscription)
        level = logging.WARNING if verdict.outcome is Outcome.NEVER else logging.DEBUG
        _log.log(level, "webhook %s", verdict.outcome.value, extra={**about, "reason": verdict.reason})
        return verdict

    async def _judged(self, answer: Answer, event: Event, subscription: Subscription) -> Verdict:
        if answer.passes:
            if self._rests.failed(subscription.id, answer.reason, answer.retry_after_s):
                _log.warning(
                    "webhook rests", extra={"webhook_id": subscription.id, "reason": answer.reason}
                )
            return _verdict(Outcome.LATER, subscription, answer.reason)
        self._rests.succeeded(subscription.id)
        if answer.taken:
            return SENT
        if answer.gone:
            await self._disable(event.tenant_id, subscription, answer.reason)
            return _verdict(Outcome.OFF, subscription, answer.reason)
        return _verdict(Outcome.NEVER, subscription, answer.reason)

    async def _disable(self, tenant_id: str, subscription: Subscription, reason: str) -> None:
        disabled = msgspec.structs.replace(
            subscription, disabled_ms=int(self._now() * _MS), disabled_reason=f"its receiver {reason}"
        )
        try:
            if await self._subscriptions.replace(tenant_id, subscription, disabled):
                _log.warning("webhook disabled", extra={"webhook_id": subscription.id, "reason": reason})
        except LogUnavailableError as error:
            # It stays in use, so its next event comes here again.
            _log.warning("webhook not disabled", extra={"webhook_id": subscription.id, "error": type(error).__name__})
        self._subscribed.forget(tenant_id)


def _verdict(outcome: Outcome, subscription: Subscription, reason: str) -> Verdict:
    return Verdict(outcome, f"webhook {subscription.id}: {reason}")
