"""Claims of forwarders: which process forwards a partition's events to a sink.

A claim is a key with the consumer's name and a lease. It saves work and keeps order, and nothing else depends on it: a
forwarder that believes in a claim which it lost sends an event twice, and the guarded position refuses its apply.
"""

from __future__ import annotations

from collections.abc import Mapping

from eventlog.keys import PartitionKeys
from eventlog.log import LogUnavailableError
from eventlog.redis.scripts import script
from eventlog.redis.server import Argument, Call, Server

FREED = "forwarder"
"""First word of the wake-up of a partition that has no forwarder; the second is the sink."""

REDRIVEN = "redriven"
"""First word of the wake-up of a partition with redriven dead letters; the second is the sink."""


def wakeup_message(kind: str, sink: str) -> str:
    """The wake-up on a partition's channel of changes that is for the forwarders of one sink."""
    return f"{kind} {sink}"


class PartitionClaims:
    """One consumer's claims on partitions, for one sink."""

    def __init__(self, server: Server, sink: str, consumer: str, *, lease_ms: int) -> None:
        """Act as `consumer` of `sink`; a claim that isn't renewed for `lease_ms` is free."""
        self.server = server
        self.sink = sink
        self.consumer = consumer
        self.lease_ms = lease_ms

    async def hold(self, wanted: Mapping[PartitionKeys, bool]) -> dict[PartitionKeys, str]:
        """Renew or take those that are wanted unless another consumer has them, give up the others.

        Returns:
            The consumer that has each now, "" for a free one; partitions that can't be reached are absent.

        Raises:
            LogUnavailableError: if none can be reached.
        """
        answers: dict[PartitionKeys, str] = {}
        groups = self.server.groups(wanted, lambda partition: partition.number)
        calls = [self._call({partition: wanted[partition] for partition in group}) for group in groups]
        for group, answer in zip(groups, await self.server.run_many(calls), strict=True):
            if not isinstance(answer, LogUnavailableError):
                holders = [holder.decode(errors="replace") for holder in answer]
                answers.update(zip(group, holders, strict=True))
        return answers

    def _call(self, wanted: Mapping[PartitionKeys, bool]) -> Call:
        keys = [key for partition in wanted for key in (partition.forwarder(self.sink), partition.changes_wakeup)]
        arguments: list[Argument] = [self.consumer, self.lease_ms, wakeup_message(FREED, self.sink)]
        return Call(script("lease_partitions"), keys, [*arguments, *map(int, wanted.values())])
