"""When a forwarder works on which run or dead letter: at once, after the work under way, or after a pause. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from eventlog.keys import PartitionKeys

BASE_S = 0.25
"""Most first failures are over by then: a throttled call, a connection that was closed."""

CAP_S = 30.0
"""A sink that was away for long gets each run within half a minute of its return."""

_DOUBLINGS = 10  # 2 ** 10 * BASE_S is above the cap; without an end the power would overflow


class Retry(NamedTuple):
    """The event at which a run stands since it could not be delivered."""

    event_id: str
    attempts: int
    since_s: float
    """When it failed first, on the forwarder's clock."""
    sent: frozenset[str] = frozenset()
    """Ids of events of the same fact that the sink has already."""


def retry_delay_s(attempts: int, draw: float) -> float:
    """The pause after so many failures; `draw`, from 0 to 1, spreads the tries over all of it (full jitter)."""
    return draw * min(CAP_S, BASE_S * 2.0 ** min(attempts - 1, _DOUBLINGS))


def next_retry(before: Retry | None, event_id: str, now_s: float) -> Retry:
    """Count one more failure of this event; the count of another event starts at one."""
    if before is None or before.event_id != event_id:
        return Retry(event_id, 1, now_s)
    return before._replace(attempts=before.attempts + 1)


class _Placed(Protocol):
    @property
    def partition(self) -> PartitionKeys: ...


Item = TypeVar("Item", bound=_Placed)


class RunScheduler(Generic[Item]):
    """Each item, by its name, is in one state: ready, under way, or waiting for its next try."""

    def __init__(self) -> None:
        self._ready: dict[str, Item] = {}
        self._under_way: dict[str, Item] = {}
        self._again: set[str] = set()
        self._waiting: dict[str, tuple[float, Item]] = {}
        self._due: list[tuple[float, str]] = []
        self.retries: dict[str, Retry] = {}
        """The retries of items whose first event failed."""

    def __len__(self) -> int:
        return len(self._ready) + len(self._under_way) + len(self._waiting)

    def __contains__(self, name: object) -> bool:
        return name in self._ready or name in self._under_way or name in self._waiting

    @property
    def ready(self) -> int:
        """How many could be taken now."""
        return len(self._ready)

    @property
    def waiting(self) -> int:
        """How many wait for their next try."""
        return len(self._waiting)

    @property
    def next_due_s(self) -> float:
        """When the next of them is tried; some moments early if it went away meanwhile."""
        return self._due[0][0] if self._due else float("inf")

    def oldest_failing_s(self, now_s: float) -> float:
        """For how long the event that failed first has been failing."""
        return max((now_s - retry.since_s for retry in self.retries.values()), default=0.0)

    def add(self, name: str, item: Item) -> None:
        """Note news of an item: it is ready, unless it waits for its next try; one under way is ready again after."""
        if name in self._under_way:
            self._again.add(name)
        elif name not in self._waiting:
            self._ready[name] = item

    def take(self, most: int, partitions: Collection[PartitionKeys]) -> list[Item]:
        """Take some of these partitions that are ready; they are under way then."""
        found: dict[str, Item] = {}
        for name, item in self._ready.items():
            if len(found) == most:
                break
            if item.partition in partitions:
                found[name] = item
        for name in found:
            del self._ready[name]
        self._under_way |= found
        return list(found.values())

    def finish(self, name: str, *, again: bool) -> None:
        """End the work on an item; `again` if it may have more than was seen."""
        item = self._under_way.pop(name, None)
        self.retries.pop(name, None)
        if item is not None and (again or name in self._again):
            self._ready[name] = item
        self._again.discard(name)

    def put_back(self, name: str) -> None:
        """Make an item that couldn't be worked on ready as before."""
        item = self._under_way.pop(name, None)
        self._again.discard(name)
        if item is not None:
            self._ready[name] = item

    def postpone(self, name: str, until_s: float, retry: Retry | None = None) -> None:
        """Try an item again at that moment; without `retry` the one that it has is kept."""
        item = self._under_way.pop(name, None)
        self._again.discard(name)
        if item is None:
            return
        self._waiting[name] = until_s, item
        heapq.heappush(self._due, (until_s, name))
        if retry is not None:
            self.retries[name] = retry

    def wake(self, now_s: float) -> None:
        """Make ready what has waited long enough."""
        while self._due and self._due[0][0] <= now_s:
            due_s, name = heapq.heappop(self._due)
            found = self._waiting.get(name)
            if found is not None and found[0] == due_s:
                del self._waiting[name]
                self._ready[name] = found[1]

    def drop(self, partition: PartitionKeys) -> None:
        """Forget all of a partition; work under way comes to nothing when it ends."""
        for name in [name for name, one in self._items() if one.partition is partition]:
            for place in (self._ready, self._under_way, self._waiting, self.retries):
                place.pop(name, None)
            self._again.discard(name)

    def _items(self) -> Iterator[tuple[str, Item]]:
        yield from self._ready.items()
        yield from self._under_way.items()
        yield from ((name, item) for name, (_, item) in self._waiting.items())
