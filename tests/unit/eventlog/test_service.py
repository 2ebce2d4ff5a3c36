import asyncio
import contextlib
import logging

import pytest

from eventlog.log import LogUnavailableError
from eventlog.service import ServiceEndedError, ServiceTasks, periodically
from tests.support.waiting import lasting


async def forever() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


async def fails() -> None:
    """Raise at once."""
    raise ValueError("broken")


async def returns() -> None:
    """End at once."""


async def test_a_task_that_raises_ends_its_service_with_that_error() -> None:
    """`wait` raises the error of a task, and the service reports that it has failed."""
    tasks = ServiceTasks()
    tasks.spawn("lasting", forever())
    tasks.spawn("broken", fails())
    with pytest.raises(ValueError, match="broken"):
        await tasks.wait()
    assert tasks.has_failed
    await tasks.stop()


async def test_a_task_that_returns_ends_its_service_too() -> None:
    """A task that ends without an error is reported by its name."""
    tasks = ServiceTasks()
    tasks.spawn("short", returns())
    with pytest.raises(ServiceEndedError, match="short"):
        await tasks.wait()
    await tasks.stop()


async def test_a_task_that_is_cancelled_from_outside_ends_its_service() -> None:
    """A task that something else cancels is a task that no longer works."""
    tasks = ServiceTasks()
    tasks.spawn("lasting", forever()).cancel()
    with pytest.raises(ServiceEndedError, match="lasting"):
        await tasks.wait()
    await tasks.stop()


async def test_a_task_spawned_during_a_wait_is_waited_for() -> None:
    """A waiter also waits for tasks that were spawned after it."""
    tasks = ServiceTasks()
    tasks.spawn("lasting", forever())
    waiting = asyncio.create_task(tasks.wait())
    await lasting(0)
    tasks.spawn("broken", fails())
    with pytest.raises(ValueError, match="broken"):
        await waiting
    await tasks.stop()


async def test_stop_lets_waiters_return_and_may_be_called_again() -> None:
    """Stopping is no failure to any waiter, and a second stop does nothing."""
    tasks = ServiceTasks()
    task = tasks.spawn("lasting", forever())
    waiting = asyncio.create_task(tasks.wait())
    await lasting(0)
    await tasks.stop()
    await waiting
    await tasks.stop()
    assert task.cancelled()
    assert not tasks.has_failed


async def test_stop_waits_for_tasks_that_end_by_themselves() -> None:
    """Within its bound a task may finish its round; only late tasks are cancelled."""
    tasks, resume = ServiceTasks(), asyncio.Event()

    async def orderly() -> None:
        await resume.wait()

    task, late = tasks.spawn("orderly", orderly()), tasks.spawn("late", forever())
    resume.set()
    await tasks.stop(timeout_s=0.05)
    assert (task.cancelled(), late.cancelled()) == (False, True)


async def test_starting_races_stopping() -> None:
    """However often a service is started and stopped at once, no task is left behind."""
    before = len(asyncio.all_tasks())
    for number in range(50):
        tasks = ServiceTasks()
        for _ in range(number % 4):
            tasks.spawn("lasting", forever())
        stopping = [asyncio.create_task(tasks.stop()) for _ in range(2)]
        tasks.spawn("later", forever())
        await asyncio.gather(*stopping)
        await tasks.stop()
    assert len(asyncio.all_tasks()) == before


async def test_periodic_work_survives_an_outage_and_a_defect(caplog: pytest.LogCaptureFixture) -> None:
    """A round without Redis is skipped silently, one that fails by a defect is logged as an error, and both repeat."""
    outcomes = iter([LogUnavailableError("away"), ValueError("broken"), None])
    done = asyncio.Event()

    async def work() -> None:
        found = next(outcomes)
        if found is not None:
            raise found
        done.set()

    with caplog.at_level(logging.INFO):
        task = asyncio.create_task(periodically(0.0, work, name="sweep", at_once=True))
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_task_spawned_after_stop_ends_at_once() -> None:
    """A start that a stop overtakes begins nothing: its tasks are cancelled before they run."""
    tasks = ServiceTasks()
    await tasks.stop()
    late = tasks.spawn("late", forever())
    await tasks.stop()
    assert late.cancelled()


async def test_a_swallowed_cancellation_is_repeated() -> None:
    """Where a library can swallow a cancellation, the tasks are cancelled until they end."""

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        await forever()

    tasks = ServiceTasks()
    task = tasks.spawn("stubborn", stubborn())
    await lasting(0)
    await tasks.stop(cancel_again_s=0.01)
    assert task.cancelled()
