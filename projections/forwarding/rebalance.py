"""Which partitions a forwarder gives up and takes, so that the living share them fairly. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def share(partitions: int, living: int) -> int:
    """The most partitions that one of so many forwarders keeps: rounded up, so that together they can keep all."""
    return -(-partitions // max(1, living))


def surplus(held: Sequence[int], busy: Collection[int], most: int) -> tuple[list[int], list[int]]:
    """Which of `held` to give up now, and which as soon as they are idle, to keep at most `most`."""
    over = max(0, len(held) - most)
    idle = [number for number in held if number not in busy]
    working = [number for number in held if number in busy]
    return idle[:over], working[: max(0, over - len(idle))]
