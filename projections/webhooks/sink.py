"""The sink itself: which subscription gets which event, and what is answered of it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from eventlog.events import Fact, SessionOpened
from eventlog.projection.webhook_subscriptions import Subscription, Subscriptions
from eventlog.redis.server import Server
from projections.forwarding.sink import SENT, Outcome, Outgoing, Verdict
from projections.integration_events import Kind, batch_kinds, transcript_kinds
from projections.webhooks.deliverer import Deliverer
from projections.webhooks.delivery_queue import DeliveryQueue, DeliveryQueues, Key, Running
from projections.webhooks.guarded_transport import Resolver
from projections.webhooks.poster import Poster
from projections.webhooks.subscription_cache import SubscriptionCache

MOST_EVENTS = 64
"""In one call: a few seconds' worth of a lively partition."""

MOST_CALLS = 16
"""At once; each waits `HOLD_S` at most, most of that for receivers far away."""

HOLD_S = 2.0
"""How long a call waits for slow receivers. Longer than a healthy one takes; their requests go on meanwhile."""

MOST_REASONS = 5
"""Named in one verdict."""

Subscribers = Mapping[str, tuple[Subscription, ...] | None]
Reasons = Mapping[Key, Verdict]
"""Why an event is late at a subscription."""

_UNREAD = Verdict(Outcome.LATER, "the subscriptions can't be read now")
_BEHIND = Verdict(Outcome.LATER, "an earlier event of the session is not delivered yet")
_OFF = Verdict(Outcome.OFF)


class Webhooks:
    """See `projections.forwarding.sink.Sink`.

    Each subscription is told of a run's events in order. One that fails holds up no other: the others get what is in
    the call, once, and what they took is remembered while the event waits for the rest.
    """

    name = "webhooks"
    most_events = MOST_EVENTS
    most_calls = MOST_CALLS

    def __init__(
        self, server: Server, *, private: bool = False, timeout_s: float = 10.0, hold_s: float = HOLD_S,
        resolve: Resolver | None = None, tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Deliver to the subscriptions that lie on `server`.

        Args:
            server: As said; it isn't closed here.
            private: Whether plain HTTP and addresses that aren't public are let pass.
            timeout_s: Bound of one request.
            hold_s: How long one call waits for requests under way.
            resolve: What tells a name's addresses; the system's resolver without.
            tls: Whose certificates are believed; those that the system believes without.
            clock: A time that only goes forward, s.
        """
        subscriptions = Subscriptions(server)
        self._hold_s = hold_s
        self._subscribed = SubscriptionCache(subscriptions, clock)
        self._poster = Poster(private=private, timeout_s=timeout_s, resolve=resolve, tls=tls)
        deliverer = Deliverer(self._poster, subscriptions, self._subscribed, private=private, clock=clock)
        self._chains = DeliveryQueues(deliverer, clock)

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """Everything that anybody may have subscribed to."""
        return (*batch_kinds(opened, fact), *transcript_kinds(opened, fact))

    async def start(self) -> None:
        """Read whose certificates are believed."""
        await self._poster.start()

    async def stop(self) -> None:
        """End the requests under way and close the connections."""
        await self._chains.stop()
        await self._poster.stop()

    async def send(self, events: Sequence[Outgoing]) -> Sequence[Verdict]:
        """Deliver to whom it concerns; what takes longer than `hold_s` goes on, and is LATER meanwhile."""
        subscribers = await self._subscribed.of([one.event.tenant_id for one in events])
        running = self._begun(events, subscribers)
        if running:
            await asyncio.wait([one.task for one in running], timeout=self._hold_s)
        reasons: dict[Key, Verdict] = {}
        for chain, _ in running:
            chain.closed = True
            reasons |= {(event_id, chain.subscription.id): why for event_id, why in chain.reasons.items()}
        return self._verdicts(events, subscribers, reasons)

    def _begun(self, events: Sequence[Outgoing], subscribers: Subscribers) -> list[Running]:
        """What has to be done for these events, under way; what an earlier call began is waited for first."""
        waited: dict[Key, Running] = {}
        chains: dict[Key, DeliveryQueue] = {}
        for one in events:
            all_of_tenant = subscribers.get(one.event.tenant_id) or ()
            for subscription in _concerned(all_of_tenant, one.event.kind):
                if subscription.id in self._chains.settled(one.event.event_id):
                    continue
                key = (one.keys.member, subscription.id)
                earlier = self._chains.running(key)
                if earlier is not None:
                    waited[key] = earlier
                else:
                    chain = chains.setdefault(key, DeliveryQueue(subscription, has_others=len(all_of_tenant) > 1))
                    chain.outgoing.append(one)
        return [*waited.values(), *(self._chains.begin(key, chain) for key, chain in chains.items())]

    def _verdicts(self, events: Sequence[Outgoing], subscribers: Subscribers, reasons: Reasons) -> list[Verdict]:
        late: set[str] = set()
        verdicts = []
        for one in events:
            verdict = self._verdict(one, subscribers.get(one.event.tenant_id), reasons)
            if verdict.outcome is Outcome.LATER:
                late.add(one.keys.member)
            elif one.keys.member in late:
                verdict = _BEHIND  # whoever has it won't get it again
            else:
                self._chains.forget(one.event.event_id)
            verdicts.append(verdict)
        return verdicts

    def _verdict(self, one: Outgoing, subscribers: Iterable[Subscription] | None, reasons: Reasons) -> Verdict:
        if subscribers is None:
            return _UNREAD
        event_id = one.event.event_id
        found = dict(self._chains.settled(event_id))
        for each in _concerned(subscribers, one.event.kind):
            found.setdefault(each.id, reasons.get((event_id, each.id)) or _under_way(each))
        return together(list(found.values()))


def _concerned(subscribers: Iterable[Subscription], kind: Kind) -> list[Subscription]:
    return [one for one in subscribers if kind in one.kinds]


def _under_way(subscription: Subscription) -> Verdict:
    return Verdict(Outcome.LATER, f"webhook {subscription.id}: no answer yet")


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of one event, what became of it at each subscription: late while it is so at any, refused if any refused it."""
    told = "; ".join([one.reason for one in verdicts if one.outcome is not Outcome.OFF and one.reason][:MOST_REASONS])
    for outcome in (Outcome.LATER, Outcome.NEVER):
        if any(one.outcome is outcome for one in verdicts):
            return Verdict(outcome, told)
    return SENT if SENT in verdicts else _OFF
