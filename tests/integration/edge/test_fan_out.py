"""The fan-out as a service."""

import asyncio

import pytest

from edge.streams.fan_out import FanOut
from eventlog.service import ServiceEndedError
from tests.integration.edge.replicas import Replica


async def test_starting_races_stopping(edge: Replica) -> None:
    """A fan-out that is started and stopped at once leaves no task behind."""
    before = len(asyncio.all_tasks())
    for _ in range(20):
        fanout = FanOut(edge.core.server)
        await asyncio.gather(fanout.start(), fanout.stop(), fanout.stop())
        await fanout.stop()
    assert len(asyncio.all_tasks()) == before


async def test_a_stopped_fan_out_lets_its_waiter_return(edge: Replica) -> None:
    """A waiter returns once the fan-out is stopped, and not before."""
    fanout = FanOut(edge.core.server)
    await fanout.start()
    waiting = asyncio.create_task(fanout.wait())
    await fanout.listening()
    assert not waiting.done()
    await fanout.stop()
    await waiting


async def test_a_fan_out_that_reads_no_more_fails(edge: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the reading task is the end of the service, which its waiter learns."""
    fanout = FanOut(edge.core.server)

    async def ends() -> None:
        """Return at once."""

    monkeypatch.setattr(fanout, "_read_feeds", ends)
    await fanout.start()
    with pytest.raises(ServiceEndedError, match="fan-out"):
        await fanout.wait()
    await fanout.stop()
