"""Queues of one session's events for one subscription: in order, none after one that failed."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping

from eventlog.projection.webhook_subscriptions import Subscription
from projections.forwarding.sink import Outcome, Result
from projections.integration_events import Event, Kind
from projections.webhooks.deliverer import Deliverer

HELD_UP_S = 60.0
"""How long an utterance waits for a subscription that fails while other subscriptions wait for the next ones: a restart
or a deployment of its receiver is over by then."""

MOST_REMEMBERED = 10_000
"""Events that some subscriptions have, or refused, while others wait for them: half a kilobyte each."""

Key = tuple[str, str]
"""Session and subscription."""

_log = logging.getLogger(__name__)


class DeliveryQueue:
    """Some events of one session for one subscription."""

    def __init__(self, subscription: Subscription, *, has_others: bool) -> None:
        """Deliver to `subscription`, of a tenant that `has_others` beside it, or not."""
        self.subscription = subscription
        self.has_others = has_others
        self.events: list[Event] = []
        self.retries: dict[str, Result] = {}
        """Results of events that are to be retried, by event id."""
        self.is_closed = False
        """Whether no call of the sink waits for it any more: it ends after the request under way."""
        self.task: asyncio.Task[None] | None = None


class DeliveryQueues:
    """The queues under way, and the final results by event and subscription until the event is done with."""

    def __init__(self, deliverer: Deliverer, clock: Callable[[], float] = time.monotonic) -> None:
        """Deliver by `deliverer`, on its clock (s)."""
        self._deliverer = deliverer
        self._clock = clock
        self._queues: dict[Key, DeliveryQueue] = {}
        self._final: OrderedDict[str, dict[str, Result]] = OrderedDict()
        self._failing_since: OrderedDict[Key, float] = OrderedDict()

    def final_results(self, event_id: str) -> Mapping[str, Result]:
        """The results of an event that are final, by subscription."""
        return self._final.get(event_id, {})

    def forget(self, event_id: str) -> None:
        """Forget an event that is done with."""
        self._final.pop(event_id, None)

    def find(self, key: Key) -> DeliveryQueue | None:
        """The queue of an earlier call that is still under way."""
        return self._queues.get(key)

    def start(self, key: Key, queue: DeliveryQueue) -> DeliveryQueue:
        """Begin to deliver; no other queue of this session and subscription may be under way."""
        queue.task = asyncio.create_task(self._deliver(queue), name=f"webhook {queue.subscription.id}")
        queue.task.add_done_callback(lambda _: self._queues.pop(key, None))
        self._queues[key] = queue
        return queue

    async def stop(self) -> None:
        """End all of them, requests under way included."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, queue: DeliveryQueue) -> None:
        skipped: Result | None = None
        for event in queue.events:
            result = skipped or await self._deliver_one(queue, event)
            if result.outcome is Outcome.RETRY:
                queue.retries[event.event_id] = result
                return
            skipped = result if result.outcome is Outcome.SKIPPED else None  # it wants none of the others either
            self._failing_since.pop((event.event_id, queue.subscription.id), None)
            self._final.setdefault(event.event_id, {})[queue.subscription.id] = result
            self._final.move_to_end(event.event_id)
            while len(self._final) > MOST_REMEMBERED:
                self._final.popitem(last=False)

    async def _deliver_one(self, queue: DeliveryQueue, event: Event) -> Result:
        webhook_id = queue.subscription.id
        try:
            result = await self._deliverer.deliver(event, queue.subscription, lambda: not queue.is_closed)
        except Exception as error:  # noqa: BLE001 - a defect; the event is retried, and dead-lettered if that doesn't help
            # Type and stack alone: the text could quote the event.
            name, stack = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            about = {"webhook_id": webhook_id, "event_id": event.event_id, "error": name, "stack": stack}
            _log.error("webhook failed by a defect; retrying", extra=about)
            result = Result(Outcome.RETRY, f"webhook {webhook_id}: {name}")
        if result.outcome is Outcome.RETRY and self._holds_up_others(queue, event):
            return Result(Outcome.REJECTED, f"{result.reason}; given up since other webhooks wait")
        return result

    def _holds_up_others(self, queue: DeliveryQueue, event: Event) -> bool:
        """Whether others have waited long enough; a session's events other than utterances are its last."""
        if queue.is_closed or not queue.has_others or event.kind is not Kind.UTTERANCE:
            return False
        now = self._clock()
        since = self._failing_since.setdefault((event.event_id, queue.subscription.id), now)
        while len(self._failing_since) > MOST_REMEMBERED:
            self._failing_since.popitem(last=False)
        return max(now - since, self._deliverer.failing_s(queue.subscription)) >= HELD_UP_S
