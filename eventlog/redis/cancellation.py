"""Cancellation that the client library forgets is honoured all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def honoured() -> Iterator[None]:
    """End what is inside by `CancelledError` if its task was cancelled meanwhile, whatever became of that inside.

    Redis-py writes under `asyncio.wait_for`, which on Python 3.11 forgets a cancellation that comes as it ends.
    """
    task = asyncio.current_task()
    # Asked for while the task ran (Ctrl-C), it is raised at the first await in here, and may be forgotten as well.
    pending = bool(getattr(task, "_must_cancel", False))
    asked = task.cancelling() - pending if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > asked:
            raise asyncio.CancelledError
