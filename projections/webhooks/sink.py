"""The sink `webhooks`: which subscription gets which event, and the combined result of each."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from eventlog.events import Fact, SessionOpened
from eventlog.projection.webhook_subscriptions import Subscription, Subscriptions
from eventlog.redis.server import Server
from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Event, Kind, batch_kinds, transcript_kinds
from projections.webhooks.deliverer import Deliverer
from projections.webhooks.delivery_queue import DeliveryQueue, DeliveryQueues, Key
from projections.webhooks.guarded_transport import Resolver
from projections.webhooks.poster import Poster
from projections.webhooks.subscription_cache import SubscriptionCache

MOST_EVENTS = 64
"""In one call: a few seconds' worth of a lively partition."""

MOST_CALLS = 16
"""At once; each waits `HOLD_S` at most, most of that for receivers far away."""

HOLD_S = 2.0
"""How long a call waits for slow receivers. Longer than a healthy one takes; their requests continue meanwhile."""

MOST_REASONS = 5
"""Quoted in one result."""

ByTenant = Mapping[str, tuple[Subscription, ...] | None]
"""The subscriptions of each tenant; None where they can't be read."""

_UNREAD = Result(Outcome.RETRY, "the subscriptions can't be read now")
_HELD_UP = Result(Outcome.RETRY, "an earlier event of the session is not delivered yet")
_SKIPPED = Result(Outcome.SKIPPED)


class Webhooks:
    """The sink `webhooks`; see `projections.forwarding.sink.Sink`.

    Each subscription gets a session's events in order. One that fails holds up no other: the others get the events of
    the call, once, and their results are remembered while an event waits for the rest.
    """

    name = "webhooks"
    most_events = MOST_EVENTS
    most_calls = MOST_CALLS

    def __init__(
        self, server: Server, *, private: bool = False, timeout_s: float = 10.0, hold_s: float = HOLD_S,
        resolve: Resolver | None = None, tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Deliver to the subscriptions that `server` holds.

        Args:
            server: The log's server; it isn't closed here.
            private: Whether plain HTTP and addresses that aren't public are allowed.
            timeout_s: Bound of one request.
            hold_s: How long one call waits for requests under way.
            resolve: Resolves names; the system's resolver by default.
            tls: The trusted certificates; the system's by default.
            clock: A time that only goes forward, s.
        """
        subscriptions = Subscriptions(server)
        self._hold_s = hold_s
        self._cache = SubscriptionCache(subscriptions, clock)
        self._poster = Poster(private=private, timeout_s=timeout_s, resolve=resolve, tls=tls)
        deliverer = Deliverer(self._poster, subscriptions, self._cache, private=private, clock=clock)
        self._queues = DeliveryQueues(deliverer, clock)

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """Everything that a tenant can subscribe to."""
        return (*batch_kinds(opened, fact), *transcript_kinds(opened, fact))

    async def start(self) -> None:
        """Read the trusted certificates."""
        await self._poster.start()

    async def stop(self) -> None:
        """End the requests under way and close the connections."""
        await self._queues.stop()
        await self._poster.stop()

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """Deliver to the tenants' subscriptions; a request longer than `hold_s` continues, and is RETRY meanwhile."""
        subscriptions = await self._cache.read([one.tenant_id for one in events])
        queues = self._start_queues(events, subscriptions)
        tasks = [queue.task for queue in queues if queue.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._hold_s)
        retries: dict[Key, Result] = {}
        for queue in queues:
            queue.is_closed = True
            retries |= {(event_id, queue.subscription.id): result for event_id, result in queue.retries.items()}
        return self._results(events, subscriptions, retries)

    def _start_queues(self, events: Sequence[Event], subscriptions: ByTenant) -> list[DeliveryQueue]:
        """Start the queues of these events; where one of an earlier call is under way, it is waited for first."""
        earlier: dict[Key, DeliveryQueue] = {}
        new: dict[Key, DeliveryQueue] = {}
        for event in events:
            all_of_tenant = subscriptions.get(event.tenant_id) or ()
            for subscription in _interested(all_of_tenant, event.kind):
                if subscription.id in self._queues.final_results(event.event_id):
                    continue
                key = (event.session_id, subscription.id)
                found = self._queues.find(key)
                if found is not None:
                    earlier[key] = found
                else:
                    queue = new.setdefault(key, DeliveryQueue(subscription, has_others=len(all_of_tenant) > 1))
                    queue.events.append(event)
        return [*earlier.values(), *(self._queues.start(key, queue) for key, queue in new.items())]

    def _results(self, events: Sequence[Event], subscriptions: ByTenant, retries: Mapping[Key, Result]) -> list[Result]:
        held_up: set[str] = set()
        results = []
        for event in events:
            result = self._result(event, subscriptions.get(event.tenant_id), retries)
            if result.outcome is Outcome.RETRY:
                held_up.add(event.session_id)
            elif event.session_id in held_up:
                result = _HELD_UP  # a subscription that has the event won't get it again
            else:
                self._queues.forget(event.event_id)
            results.append(result)
        return results

    def _result(
        self, event: Event, subscriptions: Iterable[Subscription] | None, retries: Mapping[Key, Result]
    ) -> Result:
        if subscriptions is None:
            return _UNREAD
        found = dict(self._queues.final_results(event.event_id))
        for one in _interested(subscriptions, event.kind):
            under_way = Result(Outcome.RETRY, f"webhook {one.id}: no answer yet")
            found.setdefault(one.id, retries.get((event.event_id, one.id), under_way))
        return combine(list(found.values()))


def _interested(subscriptions: Iterable[Subscription], kind: Kind) -> list[Subscription]:
    return [one for one in subscriptions if kind in one.kinds]


def combine(results: Sequence[Result]) -> Result:
    """Combine an event's results of all subscriptions: to be retried if any is, else rejected if any is."""
    reasons = [one.reason for one in results if one.outcome is not Outcome.SKIPPED and one.reason]
    for outcome in (Outcome.RETRY, Outcome.REJECTED):
        if any(one.outcome is outcome for one in results):
            return Result(outcome, "; ".join(reasons[:MOST_REASONS]))
    return SENT if SENT in results else _SKIPPED
