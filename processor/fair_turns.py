"""Turns by tenant, then session: each that has work gets an equal share of the recogniser. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_FORGET_BEYOND = 64  # idle flows remembered beside as many as have work: each is a name and a number


class FairTurns(Generic[Item]):
    """A queue whose next item is of the tenant, and there of the session, that has had least so far.

    Start-time fair queueing on two levels: an item is charged with its cost, and a flow that comes back is neither
    favoured for the time that it had no work nor charged for it. The items of one session keep their order.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._tenants = _Flows()
        self._sessions: dict[str, _Flows] = {}
        self._items: dict[tuple[str, str], deque[tuple[Item, float]]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many items wait."""
        return self._count

    def __iter__(self) -> Iterator[Item]:
        """The waiting items, session by session."""
        return (item for items in self._items.values() for item, _ in items)

    def push(self, item: Item, *, tenant: str, session: str, cost: float) -> None:
        """Add an item behind those of its session; `cost` is what its turn takes, in any one unit."""
        items = self._items.get((tenant, session))
        if items is None:
            items = self._items[tenant, session] = deque()
            if tenant not in self._sessions:
                self._sessions[tenant] = _Flows()
            if not self._sessions[tenant].has_work:
                self._tenants.add(tenant)
            self._sessions[tenant].add(session)
        items.append((item, cost))
        self._count += 1

    def pop(self) -> Item:
        """Remove and return the item whose turn is next.

        Raises:
            IndexError: if none waits.
        """
        tenant = self._tenants.take()
        sessions = self._sessions[tenant]
        session = sessions.take()
        items = self._items[tenant, session]
        item, cost = items.popleft()
        if not items:
            del self._items[tenant, session]
        sessions.charge(session, cost, has_more=bool(items))
        self._tenants.charge(tenant, cost, has_more=sessions.has_work)
        self._count -= 1
        if len(self._sessions) > 2 * _FORGET_BEYOND:
            self._sessions = {name: flows for name, flows in self._sessions.items() if flows.has_work}
        return item

    def clear(self) -> None:
        """Drop every item."""
        self._tenants, self._count = _Flows(), 0
        self._sessions.clear()
        self._items.clear()


class _Flows:
    """The flows of one level that have work, by the virtual time of their next turn."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, str]] = []
        self._next: dict[str, float] = {}
        self._now = 0.0
        self._added = 0

    @property
    def has_work(self) -> bool:
        return bool(self._waiting)

    def add(self, flow: str) -> None:
        """Let a flow take part that has work again."""
        self._added += 1
        # Of two flows whose turn is at the same time the one that came first is served.
        heapq.heappush(self._waiting, (max(self._now, self._next.get(flow, 0.0)), self._added, flow))

    def take(self) -> str:
        """Remove the flow whose turn it is."""
        self._now, _, flow = heapq.heappop(self._waiting)
        return flow

    def charge(self, flow: str, cost: float, *, has_more: bool) -> None:
        """Move the next turn of the flow that was taken last."""
        self._next[flow] = self._now + cost
        if has_more:
            self.add(flow)
        if len(self._next) > 2 * len(self._waiting) + _FORGET_BEYOND:
            self._next = {name: at for name, at in self._next.items() if at > self._now}
