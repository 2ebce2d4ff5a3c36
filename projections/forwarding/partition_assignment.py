"""Which partitions this process forwards: takes its share, keeps it, gives up what others should have."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from eventlog.keys import PartitionKeys
from eventlog.log import LogUnavailableError
from eventlog.projection.sink_state import PartitionClaims
from eventlog.work import heartbeats
from projections.forwarding.rebalance import share, surplus

LOOKS_PER_LEASE = 3
"""Between two looks a third of the lease passes, so that one that fails costs nothing."""

MOST_PAUSE_S = 3.0
"""Between two looks, however long the lease is: each is a heartbeat too, and readiness allows 15 s."""

_log = logging.getLogger(__name__)


class Look(NamedTuple):
    """What a look changed."""

    gained: list[PartitionKeys]
    lost: list[PartitionKeys]


class PartitionAssignment:
    """The partitions that one process has claimed for one sink."""

    def __init__(self, claims: PartitionClaims, clock: Callable[[], float] = time.monotonic) -> None:
        """Hold nothing yet."""
        self._claims = claims
        self._clock = clock
        self._lease_s = claims.lease_ms / 1000
        self._renewed_s: dict[PartitionKeys, float] = {}
        self._closing: frozenset[PartitionKeys] = frozenset()
        self._living = 1
        self.next_look_s = clock()
        """When to look again."""

    def __len__(self) -> int:
        return len(self._renewed_s)

    def __contains__(self, partition: object) -> bool:
        return partition in self._renewed_s

    @property
    def closing(self) -> frozenset[PartitionKeys]:
        """Those that are given up as soon as they are idle."""
        return self._closing

    def may_send(self, partition: PartitionKeys) -> bool:
        """Whether the claim is fresh enough to begin something, and to stay.

        Renewed each third of the lease, it is two thirds old only after trouble or a pause of this process: then it is
        renewed first, for somebody else may have it by now.
        """
        renewed_s = self._renewed_s.get(partition)
        if renewed_s is None or partition in self._closing:
            return False
        return self._clock() - renewed_s <= self._lease_s * (LOOKS_PER_LEASE - 1) / LOOKS_PER_LEASE

    def unsettle(self) -> None:
        """There was trouble with Redis: nothing is sent before the claims are renewed."""
        for partition in self._renewed_s:
            self._renewed_s[partition] = float("-inf")

    async def look(self, payload: Mapping[str, Any], busy: Collection[PartitionKeys]) -> Look:
        """Give a sign of life, renew what is held, take and give up what a fair share asks for.

        Raises:
            LogUnavailableError: if Redis can't be reached; what was renewed before stays so.
        """
        self.next_look_s = self._clock() + min(MOST_PAUSE_S, self._lease_s / LOOKS_PER_LEASE)
        partitions = self._claims.server.keys.partitions
        fair = share(len(partitions), await self._counted(payload))
        leaving = self._leaving(busy, fair)
        started_s = self._clock()
        wanted = {partition: partition in self._renewed_s and partition not in leaving for partition in partitions}
        holders = await self._claims.hold(wanted)
        lost = [one for one, holder in holders.items() if one in self._renewed_s and holder != self._claims.consumer]
        self._renew([one for one, holder in holders.items() if holder == self._claims.consumer], started_s)
        for partition in lost:
            del self._renewed_s[partition]
        # Not one that something old is still under way of, which could get between what is new.
        free = [one for one, holder in holders.items() if not holder and one not in leaving and one not in busy]
        return Look(await self._take(free, fair - len(self._renewed_s)), lost)

    async def leave(self) -> None:
        """Give up everything, and tell the others that they are fewer.

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

    async def _counted(self, payload: Mapping[str, Any]) -> int:
        """How many live."""
        claims = self._claims
        try:
            await heartbeats.write(claims.server, self._role, claims.consumer, payload)
            beats = await heartbeats.read_all(claims.server)
        except LogUnavailableError as error:
            # Of a cluster the node with the heartbeats may be away alone; the others' partitions are forwarded on.
            _log.debug("heartbeats not read", extra={"error": error})
            return self._living
        others = {
            beat.consumer for beat in beats
            if beat.role == self._role and beat.age_ms <= claims.lease_ms and not beat.payload.get("leaving")
        }  # fmt: skip
        self._living = len(others | {claims.consumer})
        return self._living

    def _leaving(self, busy: Collection[PartitionKeys], fair: int) -> set[PartitionKeys]:
        partitions = self._claims.server.keys.partitions
        held = [one.number for one in self._renewed_s]
        # Not always the same end, or the same partitions would change hands at each coming and going.
        random.shuffle(held)
        now, soon = surplus(held, {one.number for one in busy}, fair)
        self._closing = frozenset(partitions[number] for number in soon)
        return {partitions[number] for number in now}

    async def _take(self, free: Sequence[PartitionKeys], most: int) -> list[PartitionKeys]:
        if most <= 0 or not free:
            return []
        started_s = self._clock()
        holders = await self._claims.hold(dict.fromkeys(random.sample(free, min(most, len(free))), True))
        gained = [one for one, holder in holders.items() if holder == self._claims.consumer]
        self._renew(gained, started_s)
        return gained

    def _renew(self, partitions: Sequence[PartitionKeys], at_s: float) -> None:
        self._renewed_s.update(dict.fromkeys(partitions, at_s))
