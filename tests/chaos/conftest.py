"""Fixtures of the chaos tests: one deployment at a time, with a longer limit than other tests have."""

import contextlib
import faulthandler
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually

TURN_S = 120
"""Another chaos test ends within this; if it doesn't, two at a time are better than none."""

LONGEST_S = 600


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@pytest.fixture
def alone() -> Iterator[None]:
    """Run no other chaos test meanwhile, in any process of the test run."""
    # Pytest's own limit on hanging tests fits the other tests.
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    with (Path(tempfile.gettempdir()) / "stenolog-chaos.lock").open("w") as file:
        with contextlib.suppress(AssertionError):
            eventually(lambda: _is_locked(file.fileno()), TURN_S)
        yield
