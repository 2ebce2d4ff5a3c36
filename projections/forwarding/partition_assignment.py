"""The partitions that this process forwards: it claims its share, renews it, and releases the others'."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from eventlog.keys import PartitionKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.sink_state import PartitionClaims
from eventlog.work import heartbeats

REBALANCES_PER_LEASE = 3
"""A third of the lease passes between two rebalances, so that one that fails costs nothing."""

MOST_PAUSE_S = 3.0
"""Between two rebalances, however long the lease is: each is a heartbeat too, and readiness allows 15 s."""

_log = logging.getLogger(__name__)


class PartitionAssignment:
    """The partitions that one process has claimed for one sink."""

    def __init__(self, claims: PartitionClaims, clock: Callable[[], float] = time.monotonic) -> None:
        """Hold nothing yet."""
        self._claims = claims
        self._clock = clock
        self._lease_s = claims.lease_ms / 1000
        self._renewed_s: dict[PartitionKeys, float] = {}
        self.releasing: frozenset[PartitionKeys] = frozenset()
        """Those that are released as soon as they are idle."""
        self._alive = 1
        self.next_rebalance_s = clock()
        """When to rebalance again."""

    def __len__(self) -> int:
        return len(self._renewed_s)

    @property
    def sendable(self) -> frozenset[PartitionKeys]:
        """The partitions whose claims are fresh enough to begin something, and stay.

        Renewed each third of the lease, a claim is two thirds old only after an outage or a pause of this process: then
        it is renewed first, for another process may have it by now.
        """
        since_s = self._clock() - self._lease_s * (REBALANCES_PER_LEASE - 1) / REBALANCES_PER_LEASE
        fresh = (partition for partition, renewed_s in self._renewed_s.items() if renewed_s >= since_s)
        return frozenset(fresh) - self.releasing

    def expire(self) -> None:
        """Send nothing before the claims are renewed: Redis could not be reached."""
        for partition in self._renewed_s:
            self._renewed_s[partition] = float("-inf")

    async def rebalance(
        self, payload: Mapping[str, Any], busy: Collection[PartitionKeys]
    ) -> tuple[list[PartitionKeys], list[PartitionKeys]]:
        """Write a heartbeat, renew the claims, claim and release partitions as a fair share asks for.

        Returns:
            The partitions that were gained, and those that were lost.

        Raises:
            LogUnavailableError: if Redis can't be reached; claims that were renewed before stay so.
        """
        self.next_rebalance_s = self._clock() + min(MOST_PAUSE_S, self._lease_s / REBALANCES_PER_LEASE)
        partitions = self._claims.server.keys.partitions
        fair = fair_share(len(partitions), await self._count_alive(payload))
        released = self._choose_released(busy, fair)
        started_s = self._clock()
        wanted = {partition: partition in self._renewed_s and partition not in released for partition in partitions}
        holders = await self._claims.hold(wanted)
        lost = [one for one, holder in holders.items() if one in self._renewed_s and holder != self._claims.consumer]
        kept = [one for one, holder in holders.items() if holder == self._claims.consumer]
        self._renewed_s |= dict.fromkeys(kept, started_s)
        for partition in lost:
            del self._renewed_s[partition]
        # Not one with an old event still under way, which could get between the new ones.
        free = [one for one, holder in holders.items() if not holder and one not in released and one not in busy]
        return await self._claim(free, fair - len(self._renewed_s)), lost

    async def release(self) -> None:
        """Release every partition, and leave the number of living forwarders.

        Raises:
            LogUnavailableError: if Redis can't be reached; the claims run out then.
        """
        claims = self._claims
        await heartbeats.write(claims.server, self._role, claims.consumer, {"leaving": True})
        if self._renewed_s:
            await claims.hold(dict.fromkeys(self._renewed_s, False))
        self._renewed_s.clear()

    @property
    def _role(self) -> str:
        return f"projection.{self._claims.sink}"

    async def _count_alive(self, payload: Mapping[str, Any]) -> int:
        """How many forwarders of the sink live."""
        claims = self._claims
        try:
            await heartbeats.write(claims.server, self._role, claims.consumer, payload)
            beats = await heartbeats.read_all(claims.server)
        except LogUnavailableError as error:
            # Perhaps only the node with the heartbeats is away; the other nodes' partitions are forwarded.
            _log.debug("heartbeats not read", extra={"error": error})
            return self._alive
        others = {
            beat.consumer for beat in beats
            if beat.role == self._role and beat.age_ms <= claims.lease_ms and not beat.payload.get("leaving")
        }  # fmt: skip
        self._alive = len(others | {claims.consumer})
        return self._alive

    def _choose_released(self, busy: Collection[PartitionKeys], fair: int) -> set[PartitionKeys]:
        partitions = self._claims.server.keys.partitions
        held = [one.number for one in self._renewed_s]
        # Not always the same end, or the same partitions would change hands at each coming and going.
        random.shuffle(held)
        now, soon = surplus(held, {one.number for one in busy}, fair)
        self.releasing = frozenset(partitions[number] for number in soon)
        return {partitions[number] for number in now}

    async def _claim(self, free: Sequence[PartitionKeys], most: int) -> list[PartitionKeys]:
        if most <= 0 or not free:
            return []
        started_s = self._clock()
        holders = await self._claims.hold(dict.fromkeys(random.sample(free, min(most, len(free))), True))
        gained = [one for one, holder in holders.items() if holder == self._claims.consumer]
        self._renewed_s |= dict.fromkeys(gained, started_s)
        return gained


def fair_share(partitions: int, alive: int) -> int:
    """The most partitions that one of so many forwarders keeps: rounded up, so that together they can keep all."""
    return -(-partitions // max(1, alive))


def surplus(held: Sequence[int], busy: Collection[int], most: int) -> tuple[list[int], list[int]]:
    """The partitions to release now, and those to release as soon as they are idle, to keep at most `most`."""
    over = max(0, len(held) - most)
    idle = [number for number in held if number not in busy]
    working = [number for number in held if number in busy]
    return idle[:over], working[: max(0, over - len(idle))]
