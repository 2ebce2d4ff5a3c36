"""A worker as a service: it ends with the first of its tasks that ends."""

import asyncio

import pytest

from eventlog.service import ServiceEndedError
from processor.worker import Worker
from stenolog.roles.runner import serve
from tests.support.deployment import Deployment, held
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async, lasting


class DefectError(Exception):
    """A defect in one of a worker's loops."""


async def broken(*_: object, **_keywords: object) -> bool:
    """Fail by a defect."""
    raise DefectError


def break_reader(worker: Worker) -> None:
    """Make the next read of audio fail by a defect."""
    worker._reader.tick = broken  # type: ignore[method-assign]


def break_committer(worker: Worker) -> None:
    """Make the next commit fail by a defect."""
    worker._log.commit = broken  # type: ignore[assignment]


@pytest.mark.parametrize("fault", [break_reader, break_committer])
async def test_a_defect_in_a_main_loop_ends_the_worker(single: Deployment, fault: object) -> None:
    """When the reader or the committer raises, the worker's `wait` raises the same error."""
    assert callable(fault)
    worker = await single.started()
    waiting = asyncio.create_task(worker.wait())
    await lasting(0)
    assert not waiting.done()
    fault(worker)
    await single.spoken(Story(talk()))
    with pytest.raises(DefectError):
        await asyncio.wait_for(waiting, 10)


async def test_a_main_loop_that_returns_ends_the_worker(single: Deployment) -> None:
    """A loop that ends without an error is reported by its name."""
    worker = await single.worker()
    worker._committer.run = returns  # type: ignore[method-assign]
    await worker.start()
    with pytest.raises(ServiceEndedError, match="committer"):
        await asyncio.wait_for(worker.wait(), 10)


async def returns() -> None:
    """End at once."""


async def test_serving_ends_with_the_event_or_the_service(single: Deployment) -> None:
    """A served worker is stopped by the event in order, and a defect of it is raised; both ways it is stopped."""
    stop = asyncio.Event()
    worker = await single.worker()
    await single.open(Story(talk()))
    serving = asyncio.create_task(serve(stop, worker))
    await held(worker, 1)
    stop.set()
    await serving
    assert len(worker.active_runs) == 0
    worker = await single.worker()
    serving = asyncio.create_task(serve(asyncio.Event(), worker))
    await held(worker, 1)
    break_reader(worker)
    with pytest.raises(DefectError):
        await serving
    await eventually_async(lambda: not worker._tasks.has_failed and len(worker.active_runs) == 0)
