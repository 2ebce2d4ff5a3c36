from collections import Counter
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from eventlog.partitions import MAX_PARTITIONS, SLOTS, partition_of, tags

CHI_SQUARE_63 = 103.4
"""Of 63 degrees of freedom; larger is one set in a thousand that chance has made."""


def test_each_node_of_three_gets_its_share() -> None:
    """Each contiguous third of the slots holds 21 or 22 of 64 partitions, a fair share for each of three masters."""
    per_node = Counter(key_slot(tag.encode()) * 3 // SLOTS for tag in tags(64))
    assert sorted(per_node.values()) == [21, 21, 22]


@given(st.integers(1, 128))
def test_partitions_lie_in_equal_shares(partitions: int) -> None:
    """Partition n lies in the n-th of the slots' equal shares, one for each partition."""
    slots = [key_slot(tag.encode()) for tag in tags.__wrapped__(partitions)]
    ends = [number * SLOTS // partitions for number in range(partitions + 1)]
    assert all(first <= slot < end for slot, first, end in zip(slots, ends, ends[1:], strict=False))


def test_tags_never_change() -> None:
    """The tags are the same in every version, for they are part of the keys that hold data (OPS-1)."""
    assert [tags(64)[n] for n in (0, 1, 31, 63)] == [
        "stenolog-0-153", "stenolog-1-33", "stenolog-31-41", "stenolog-63-18",
    ]  # fmt: skip
    assert tags(1) == ("stenolog-0-0",)


def test_sessions_never_change_their_partition() -> None:
    """A session's partition is the same in every process and version (OPS-1, LIVE-4)."""
    assert partition_of("7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a", 64) == 1
    assert partition_of("a call of Ana's, ünnamed", 64) == 37


def test_ids_spread_over_the_partitions() -> None:
    """Of 6,400 session ids, UUIDs or counted ones, no partition gets more than half again its share of 100."""
    random = Random(1)
    uuids = Counter(partition_of(str(UUID(int=random.getrandbits(128))), 64) for _ in range(6400))
    counted = Counter(partition_of(f"call-{n}", 64) for n in range(6400))
    for spread in (uuids, counted):
        assert len(spread) == 64
        assert max(spread.values()) <= 150


def test_sessions_make_no_slot_hot() -> None:
    """UUIDs are spread over the partitions as chance would: chi-square of 64,000 stays below what one in 1,000 is."""
    random = Random(1)
    found = Counter(partition_of(str(UUID(int=random.getrandbits(128), version=4)), 64) for _ in range(64_000))
    assert sum((count - 1000) ** 2 / 1000 for count in found.values()) < CHI_SQUARE_63


@pytest.mark.parametrize("partitions", [0, -1, MAX_PARTITIONS + 1])
def test_a_number_out_of_bounds_is_refused(partitions: int) -> None:
    """A number of partitions that no deployment can have is an error that names the bounds."""
    with pytest.raises(ValueError, match=f"1 to {MAX_PARTITIONS}"):
        tags(partitions)
