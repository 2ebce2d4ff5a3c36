"""The watermarks themselves, and reading a node's memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.redis.memory import HYSTERESIS_PERCENT, Level, NodeMemory, Watermarks, node_of, read_memory
from eventlog.redis.server import connect
from tests.integration.memory.full_redis import fill
from tests.support.servers import Server

MARKS = Watermarks(80.0, 90.0)


@pytest.mark.parametrize(
    ("percent", "level"),
    [(0.0, Level.NORMAL), (79.9, Level.NORMAL), (80.0, Level.HIGH), (89.9, Level.HIGH), (90.0, Level.CRITICAL),
     (140.0, Level.CRITICAL)],
)  # fmt: skip
def test_watermarks_are_where_they_are_set(percent: float, level: Level) -> None:
    """From a watermark on a node that was at the normal level has the watermark's level."""
    assert MARKS.level(percent, Level.NORMAL) is level


@given(st.floats(0, 200), st.floats(0, 200))
def test_a_watermark_is_left_below_where_it_was_reached(reached: float, then: float) -> None:
    """A level holds until memory is some points below its watermark, and no longer."""
    before = MARKS.level(reached, Level.NORMAL)
    after = MARKS.level(then, before)
    assert after >= MARKS.level(then, Level.NORMAL)
    for level, mark in ((Level.HIGH, 80.0), (Level.CRITICAL, 90.0)):
        if before >= level and then >= mark - HYSTERESIS_PERCENT:
            assert after >= level
        if then < mark - HYSTERESIS_PERCENT:
            assert after < level


def test_without_a_bound_nothing_is_full() -> None:
    """A node without a bound is never full, however much it holds."""
    assert NodeMemory(1 << 50, 0).percent == 0.0


async def test_memory_is_read_of_every_node(server: Server) -> None:
    """Each node reports its use and limit; a node without a limit gets the configured one."""
    connected = await connect(server.url, partitions=8)
    try:
        fill(server.nodes[-1], 50)
        found = await read_memory(connected, limit_bytes=1 << 40)
        assert len(found) == len(server.nodes)
        bounds = sorted(memory.limit_bytes for memory in found.values())
        assert bounds[1:] == [1 << 40] * (len(server.nodes) - 1)
        assert 30 < max(memory.percent for memory in found.values()) < 70
        assert {node_of(connected, partition) for partition in connected.keys.partitions} == set(found)
    finally:
        await connected.close()
