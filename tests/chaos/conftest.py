"""Whole deployments under fire: one at a time, and with more time than other tests have."""

import contextlib
import faulthandler
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually

TURN_S = 120
"""Another chaos test is over by then; if not, two at once are better than none."""

LONGEST_S = 600


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@pytest.fixture
def alone() -> Iterator[None]:
    """No other chaos test runs meanwhile, whichever process of the test run it would be in."""
    # Pytest's own watch over hanging tests is set to what the others need.
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    with (Path(tempfile.gettempdir()) / "stenolog-chaos.lock").open("w") as file:
        with contextlib.suppress(AssertionError):
            eventually(lambda: _taken(file.fileno()), TURN_S)
        yield
