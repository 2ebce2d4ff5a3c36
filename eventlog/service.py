"""The lifecycle that every background role shares: start, wait, stop; and the one way to do work periodically."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from eventlog.log import LogUnavailableError

_log = logging.getLogger(__name__)


class Service(Protocol):
    """A background role of a process. Its process starts it, waits for it, and stops it.

    A service runs until `stop`. If one of its tasks ends earlier, by an error or without one, `wait` reports that, and
    the process ends with it: a supervisor restarts a process that exits, and cannot see a task that died inside one.
    """

    async def start(self) -> None:
        """Begin the work.

        Raises:
            LogUnavailableError: if it needs Redis to begin, and Redis cannot be reached; nothing was started.
        """

    async def wait(self) -> None:
        """Return, or raise what ended it, as soon as one of its tasks ends; before `stop`, none should."""

    async def stop(self) -> None:
        """End the work in order. Safe at any time, before `start` has ended too, and more than once."""


class ServiceEndedError(Exception):
    """A task of a service returned although nothing had stopped the service: a defect."""


class ServiceTasks:
    """The tasks of one service: the first that ends, ends the service."""

    def __init__(self) -> None:
        """Hold no task yet."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_changed = asyncio.Event()
        self._is_stopped = False

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`, which must not end before the service does, as a task called `name`; cancel it after `stop`."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        if self._is_stopped:
            task.cancel()
        self._is_changed.set()
        return task

    @property
    def has_failed(self) -> bool:
        """Whether a task has ended that should not have."""
        return not self._is_stopped and any(task.done() for task in self._tasks)

    async def wait(self) -> None:
        """Return once `stop` has been called.

        Raises:
            ServiceEndedError: if a task returned, or was cancelled, before `stop`.
            Exception: whatever a task raised.
        """
        while not self._is_stopped:
            self._is_changed.clear()
            changed = asyncio.ensure_future(self._is_changed.wait())
            try:
                await asyncio.wait({*self._tasks, changed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            for task in self._tasks:
                if task.done() and not self._is_stopped:
                    if not task.cancelled():
                        task.result()
                    raise ServiceEndedError(f"task {task.get_name()} ended by itself")

    async def stop(self, *, timeout_s: float = 0.0, cancel_again_s: float | None = None) -> None:
        """Give the tasks `timeout_s` to end by themselves, cancel the others, and wait until all have ended.

        With `cancel_again_s`, tasks that have not ended are cancelled again after each such time: for libraries that
        can swallow a cancellation.
        """
        self._is_stopped = True
        self._is_changed.set()
        tasks, self._tasks = self._tasks, set()
        if not tasks:
            return
        if timeout_s:
            await asyncio.wait(tasks, timeout=timeout_s)
        while pending := {task for task in tasks if not task.done()}:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=cancel_again_s)


async def periodically(
    period_s: float, work: Callable[[], Awaitable[None]], *, name: str, jitter: float = 0.0, at_once: bool = False
) -> None:
    """Do housekeeping `work` every `period_s` seconds until cancelled.

    A round that finds Redis unreachable is skipped, silently: the loops that clients wait for report that loudly. A
    round that fails by a defect is logged as an error, and repeated, since housekeeping that one broken session
    can stop for all others would be worse. Work that clients wait for belongs into a task of its own,
    whose end is its service's end.

    Args:
        period_s: Seconds between the end of one round and the next one's begin.
        work: One round; it holds no state that a failed round could leave broken.
        name: What the logs call it.
        jitter: Share of the period by which each pause varies at random, so that processes do not act in step.
        at_once: Begin with a round instead of a pause.
    """
    if not at_once:
        await asyncio.sleep(_pause_s(period_s, jitter))
    while True:
        try:
            await work()
        except LogUnavailableError as error:
            _log.debug("round skipped: log unavailable", extra={"work": name, "error": error})
        except Exception:  # noqa: BLE001 - reported, and repeated: see above
            _log.exception("round failed by a defect; repeating it later", extra={"work": name})
        await asyncio.sleep(_pause_s(period_s, jitter))


def _pause_s(period_s: float, jitter: float) -> float:
    return period_s * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311 - spread out, no secret
