"""A cache of tenants' subscriptions, some seconds old at most."""

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
"""Cached: a kilobyte each with a subscription or two, less for the many that have none."""


class _Cached(NamedTuple):
    until: float
    subscriptions: tuple[Subscription, ...]


class SubscriptionCache:
    """The subscriptions that are in use, by tenant."""

    def __init__(self, subscriptions: Subscriptions, now: Callable[[], float] = time.monotonic) -> None:
        """Read from `subscriptions` those that are older than `FRESH_S` by the clock `now` (s)."""
        self._subscriptions = subscriptions
        self._now = now
        self._cached: OrderedDict[str, _Cached] = OrderedDict()

    async def read(self, tenant_ids: Collection[str]) -> Mapping[str, tuple[Subscription, ...] | None]:
        """Those of each tenant that are in use; None where they can't be read now."""
        now = self._now()
        wanted = dict.fromkeys(tenant_ids)
        missing = [one for one in wanted if one not in self._cached or self._cached[one].until <= now]
        read: Mapping[str, list[Subscription] | LogUnavailableError] = {}
        if missing:
            try:
                read = await self._subscriptions.read_many(missing)
            except LogUnavailableError as error:
                read = dict.fromkeys(missing, error)
        found: dict[str, tuple[Subscription, ...] | None] = {}
        for one in wanted:
            known = read.get(one)
            if isinstance(known, LogUnavailableError):
                found[one] = None
                continue
            if known is not None:
                self._cached[one] = _Cached(now + FRESH_S, tuple(each for each in known if not each.disabled_ms))
                self._cached.move_to_end(one)
            found[one] = self._cached[one].subscriptions
        while len(self._cached) > MOST_TENANTS:
            self._cached.popitem(last=False)
        return found

    def forget(self, tenant_id: str) -> None:
        """Read that tenant's subscriptions again next time."""
        self._cached.pop(tenant_id, None)
