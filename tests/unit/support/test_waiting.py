"""Waiting for a condition with a deadline."""

import time

import pytest

from tests.support.waiting import eventually, eventually_async


def test_eventually_returns_the_first_true_value() -> None:
    """Waiting ends with the first value that is true."""
    values = iter([0, None, 7])
    assert eventually(lambda: next(values)) == 7


async def test_eventually_gives_up_at_its_deadline() -> None:
    """A condition that never holds fails at the deadline and names itself."""
    started_s = time.monotonic()
    with pytest.raises(AssertionError, match="never true"):
        await eventually_async(lambda: False, 0.05, "never true")
    assert time.monotonic() - started_s < 5
