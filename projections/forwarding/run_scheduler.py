"""What a forwarder has to look at, by name: at once, when it has the time, or after a pause. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from eventlog.keys import PartitionKeys
from projections.forwarding.backoff import Failure


class Placed(Protocol):
    """Something of a partition."""

    @property
    def partition(self) -> PartitionKeys:
        """Where it is."""
        ...


Item = TypeVar("Item", bound=Placed)


class RunScheduler(Generic[Item]):
    """Each item is in one place: to do, under way, or waiting for its next try."""

    def __init__(self) -> None:
        self._todo: dict[str, Item] = {}
        self._under_way: dict[str, Item] = {}
        self._again: set[str] = set()
        self._waiting: dict[str, tuple[float, Item]] = {}
        self._due: list[tuple[float, str]] = []
        self.failures: dict[str, Failure] = {}
        """Of items whose first event failed."""

    def __len__(self) -> int:
        return len(self._todo) + len(self._under_way) + len(self._waiting)

    def __contains__(self, name: object) -> bool:
        return name in self._todo or name in self._under_way or name in self._waiting

    @property
    def todo(self) -> int:
        """How many could be taken now."""
        return len(self._todo)

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
        return max((now_s - failure.first_s for failure in self.failures.values()), default=0.0)

    def note(self, name: str, item: Item) -> None:
        """There is news of an item; one that waits goes on waiting."""
        if name in self._under_way:
            self._again.add(name)
        elif name not in self._waiting:
            self._todo[name] = item

    def take(self, most: int, may: Callable[[PartitionKeys], bool]) -> list[tuple[str, Item]]:
        """Some that are to do, of partitions where that `may` be; they are under way then."""
        found: list[tuple[str, Item]] = []
        for name, item in self._todo.items():
            if len(found) == most:
                break
            if may(item.partition):
                found.append((name, item))
        for name, item in found:
            del self._todo[name]
            self._under_way[name] = item
        return found

    def finish(self, name: str, *, again: bool) -> None:
        """An item is no longer under way; `again` if more of it may be there than was seen."""
        item = self._under_way.pop(name, None)
        self.failures.pop(name, None)
        if item is not None and (again or name in self._again):
            self._todo[name] = item
        self._again.discard(name)

    def put_back(self, name: str) -> None:
        """An item couldn't be worked on: it is to do as before."""
        item = self._under_way.pop(name, None)
        self._again.discard(name)
        if item is not None:
            self._todo[name] = item

    def postpone(self, name: str, until_s: float, failure: Failure | None) -> None:
        """An item is tried again at that moment."""
        item = self._under_way.pop(name, None)
        self._again.discard(name)
        if item is None:
            return
        self._waiting[name] = until_s, item
        heapq.heappush(self._due, (until_s, name))
        if failure is not None:
            self.failures[name] = failure

    def wake(self, now_s: float) -> None:
        """What has waited long enough is to do."""
        while self._due and self._due[0][0] <= now_s:
            due_s, name = heapq.heappop(self._due)
            found = self._waiting.get(name)
            if found is not None and found[0] == due_s:
                del self._waiting[name]
                self._todo[name] = found[1]

    def drop(self, partition: PartitionKeys) -> None:
        """Forget all of a partition; what is under way comes to nothing when it ends."""
        for name in [name for name, item in self._todo.items() if item.partition is partition]:
            del self._todo[name]
            self.failures.pop(name, None)
        for name in [name for name, (_, item) in self._waiting.items() if item.partition is partition]:
            del self._waiting[name]
            self.failures.pop(name, None)
        for name in [name for name, item in self._under_way.items() if item.partition is partition]:
            del self._under_way[name]
            self._again.discard(name)
            self.failures.pop(name, None)
