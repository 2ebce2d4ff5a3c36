"""The events of one run on their way to one subscription: in order, none after one that failed."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from eventlog.projection.webhook_subscriptions import Subscription
from projections.forwarding.sink import Outcome, Outgoing, Verdict
from projections.integration_events import Event, Kind
from projections.webhooks.deliverer import Deliverer

HELD_UP_S = 60.0
"""How long a sentence waits for a subscription that fails while other subscriptions wait for the next ones: a restart
or a deployment of its receiver is over by then."""

MOST_REMEMBERED = 10_000
"""Events of which some subscriptions have, or refused, what others haven't got yet: half a kilobyte each."""

Key = tuple[str, str]
"""Run and subscription."""

_log = logging.getLogger(__name__)


class DeliveryQueue:
    """Some events for one subscription."""

    def __init__(self, subscription: Subscription, *, has_others: bool) -> None:
        """Of a tenant that `has_others` beside it, or not."""
        self.subscription = subscription
        self.has_others = has_others
        self.outgoing: list[Outgoing] = []
        self.reasons: dict[str, Verdict] = {}
        """Why an event is late, by its id."""
        self.closed = False
        """Nobody waits for it any more: it ends after the request under way."""


class Running(NamedTuple):
    """A chain and what drives it."""

    chain: DeliveryQueue
    task: asyncio.Task[None]


class DeliveryQueues:
    """The chains under way, and what is settled for good by event and subscription until the event is over with."""

    def __init__(self, deliverer: Deliverer, clock: Callable[[], float] = time.monotonic) -> None:
        """Deliver by `deliverer`, on its clock (s)."""
        self._deliverer = deliverer
        self._clock = clock
        self._running: dict[Key, Running] = {}
        self._settled: OrderedDict[str, dict[str, Verdict]] = OrderedDict()
        self._late_since: OrderedDict[Key, float] = OrderedDict()

    def settled(self, event_id: str) -> Mapping[str, Verdict]:
        """What became of an event for good, by subscription."""
        return self._settled.get(event_id, {})

    def forget(self, event_id: str) -> None:
        """The event is over with."""
        self._settled.pop(event_id, None)

    def running(self, key: Key) -> Running | None:
        """The chain of an earlier call that is still under way."""
        return self._running.get(key)

    def begin(self, key: Key, chain: DeliveryQueue) -> Running:
        """Begin to deliver; there must be no other under way of this run and subscription."""
        task = asyncio.create_task(self._run(chain), name=f"webhook {chain.subscription.id}")
        self._running[key] = Running(chain, task)
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return self._running[key]

    async def stop(self) -> None:
        """End all of them, requests under way included."""
        tasks = [one.task for one in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, chain: DeliveryQueue) -> None:
        gone: Verdict | None = None
        for one in chain.outgoing:
            verdict = gone or await self._delivered(chain, one.event)
            if verdict.outcome is Outcome.LATER:
                chain.reasons[one.event.event_id] = verdict
                return
            gone = verdict if verdict.outcome is Outcome.OFF else None  # it wants none of the others either
            self._settle(one.event.event_id, chain.subscription.id, verdict)

    async def _delivered(self, chain: DeliveryQueue, event: Event) -> Verdict:
        about = chain.subscription
        try:
            verdict = await self._deliverer.deliver(event, about, lambda: not chain.closed)
        except Exception as error:  # noqa: BLE001 - a defect; the event is tried again, and told of if that doesn't help
            # Type and stack alone: the text could quote what was to be sent.
            stack = "".join(traceback.format_tb(error.__traceback__))
            known = {"webhook_id": about.id, "event_id": event.event_id, "error": type(error).__name__, "stack": stack}
            _log.error("webhook failed by a defect", extra=known)
            verdict = Verdict(Outcome.LATER, f"webhook {about.id}: {type(error).__name__}")
        if verdict.outcome is Outcome.LATER and self._holds_up(chain, event):
            return Verdict(Outcome.NEVER, f"{verdict.reason}; set aside since other webhooks wait")
        return verdict

    def _holds_up(self, chain: DeliveryQueue, event: Event) -> bool:
        """Whether others have waited long enough; nothing of a run comes after an event other than an utterance."""
        if chain.closed or not chain.has_others or event.kind is not Kind.UTTERANCE:
            return False
        now = self._clock()
        since = self._late_since.setdefault((event.event_id, chain.subscription.id), now)
        while len(self._late_since) > MOST_REMEMBERED:
            self._late_since.popitem(last=False)
        return max(now - since, self._deliverer.failing_s(chain.subscription)) >= HELD_UP_S

    def _settle(self, event_id: str, subscription_id: str, verdict: Verdict) -> None:
        self._late_since.pop((event_id, subscription_id), None)
        self._settled.setdefault(event_id, {})[subscription_id] = verdict
        self._settled.move_to_end(event_id)
        while len(self._settled) > MOST_REMEMBERED:
            self._settled.popitem(last=False)
