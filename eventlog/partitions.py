"""Partitions: a session's partition is its hash tag, spread evenly over a cluster's slots."""

from __future__ import annotations

import zlib
from functools import lru_cache

from redis.crc import key_slot

SLOTS = 16384
"""Redis Cluster's slot count (cluster specification, "Key distribution model")."""

MAX_PARTITIONS = 1024
"""More would leave fewer than 16 slots to each and make every sweep over the partitions costly."""

EVERY_KEY = "{stenolog*}:*"
"""SCAN's pattern for each key of a deployment, and for no key of others that share its Redis."""


def partition_of(session_id: str, partitions: int) -> int:
    """Return a session's partition: CRC-32 of its id, so that ids made elsewhere spread as well as UUIDs do."""
    return zlib.crc32(session_id.encode()) % partitions


@lru_cache(maxsize=4)
def tags(partitions: int) -> tuple[str, ...]:
    """Return one hash tag per partition, each in its own equal share of the slot space.

    A cluster usually gives each master a contiguous range of slots; shares of equal width therefore give
    each master its fair number of partitions. The tag is the first ``stenolog-<partition>-<n>`` whose slot falls
    into the share, so every process finds the same one.

    Raises:
        ValueError: if `partitions` isn't in 1…MAX_PARTITIONS.
    """
    if not 1 <= partitions <= MAX_PARTITIONS:
        msg = f"partitions must be 1 to {MAX_PARTITIONS}, not {partitions}"
        raise ValueError(msg)
    return tuple(_tag(partition, partitions) for partition in range(partitions))


def _tag(partition: int, partitions: int) -> str:
    first = partition * SLOTS // partitions
    last = (partition + 1) * SLOTS // partitions
    attempt = 0
    while True:
        tag = f"stenolog-{partition}-{attempt}"
        if first <= key_slot(tag.encode()) < last:
            return tag
        attempt += 1
