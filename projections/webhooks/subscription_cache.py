"""The subscriptions of tenants, as they were some seconds ago at most."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from eventlog.log import LogUnavailableError
from eventlog.projection.webhook_subscriptions import Subscription, Subscriptions

FRESH_S = 5.0
"""How long a change may go unnoticed; a tenant with many sentences a second is looked up once in that time."""

MOST_TENANTS = 10_000
"""Remembered: a kilobyte each with a subscription or two, less for the many that have none."""


class _Known(NamedTuple):
    until: float
    subscriptions: tuple[Subscription, ...]


class SubscriptionCache:
    """A bounded memory of subscriptions."""

    def __init__(self, subscriptions: Subscriptions, now: Callable[[], float] = time.monotonic) -> None:
        """Read them from `subscriptions` unless that was done just now, by the clock `now` (s)."""
        self._subscriptions = subscriptions
        self._now = now
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def of(self, tenant_ids: Collection[str]) -> Mapping[str, tuple[Subscription, ...] | None]:
        """Those of each tenant that are in use; None where they can't be read now."""
        now = self._now()
        wanted = dict.fromkeys(tenant_ids)
        missing = [one for one in wanted if one not in self._known or self._known[one].until <= now]
        read: Mapping[str, list[Subscription] | LogUnavailableError] = {}
        if missing:
            try:
                read = await self._subscriptions.of_many(missing)
            except LogUnavailableError as error:
                read = dict.fromkeys(missing, error)
        found: dict[str, tuple[Subscription, ...] | None] = {}
        for one in wanted:
            known = read.get(one)
            if isinstance(known, LogUnavailableError):
                found[one] = None
                continue
            if known is not None:
                self._keep(one, _Known(now + FRESH_S, tuple(each for each in known if not each.disabled_ms)))
            found[one] = self._known[one].subscriptions
        while len(self._known) > MOST_TENANTS:
            self._known.popitem(last=False)
        return found

    def forget(self, tenant_id: str) -> None:
        """Read that tenant's anew next time."""
        self._known.pop(tenant_id, None)

    def _keep(self, tenant_id: str, known: _Known) -> None:
        self._known[tenant_id] = known
        self._known.move_to_end(tenant_id)
