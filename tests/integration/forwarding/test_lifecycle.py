"""A forwarder as a service: started, stopped, and ended by a defect."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from eventlog.projection.projection_log import Notices, ProjectionLog
from eventlog.redis.server import Server
from projections.forwarding.forwarder import Forwarder, Terms
from projections.forwarding.sink import Result
from projections.integration_events import Event
from tests.integration.forwarding.forwarders import (
    GIVE_UP_S,
    LEASE_MS,
    PARTITIONS,
    TTL_S,
    WAIT_S,
    all_sent,
    conversations,
    holders,
    shares,
)
from tests.integration.forwarding.sinks import Recorder
from tests.support.waiting import eventually_async, lasting


def a_forwarder(log: Server, sink: Recorder, consumer: str = "c1") -> Forwarder:
    """A forwarder that is not started."""
    projection_log = ProjectionLog(log, sink.name, consumer, session_ttl_s=TTL_S)
    return Forwarder(sink, projection_log, Terms(LEASE_MS, GIVE_UP_S, TTL_S))


@asynccontextmanager
async def started(forwarder: Forwarder) -> AsyncIterator[asyncio.Task[None]]:
    """The forwarder at work, and a task that waits for its end."""
    await forwarder.start()
    waiting = asyncio.create_task(forwarder.wait())
    try:
        yield waiting
    finally:
        await forwarder.stop()
        waiting.cancel()


async def test_stop_may_come_at_any_moment(single: Server) -> None:
    """A forwarder that is stopped at any moment of its start frees its partitions and its sink, and `wait` returns."""
    for rounds in range(20):
        sink = Recorder()
        forwarder = a_forwarder(single, sink, f"c{rounds}")
        starting = asyncio.create_task(forwarder.start())
        waiting = asyncio.create_task(forwarder.wait())
        for _ in range(rounds):
            await lasting(0)
        await asyncio.gather(forwarder.stop(), forwarder.stop(), starting)
        await waiting
        assert sink.starts <= 1 <= sink.stops
    assert set(await holders(single)) == {""}


async def test_stop_before_start_leaves_nothing_to_start(single: Server) -> None:
    """A forwarder that was stopped does not start any more."""
    sink = Recorder()
    forwarder = a_forwarder(single, sink)
    await forwarder.stop()
    await forwarder.start()
    await forwarder.wait()
    assert sink.starts == 0


class Unready(Recorder):
    """A sink with a defect: its first start raises, and so does its first call."""

    async def start(self) -> None:
        """See `Sink`."""
        await super().start()
        if self.starts == 1:
            raise LookupError("not ready")

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """See `Sink`."""
        if not self.requests:
            self.requests += events
            raise LookupError("not ready")
        return await super().send(events)


async def test_a_failing_sink_does_not_end_the_service(
    single: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink that raises at its start and at a call is tried again, and gets its events."""
    monkeypatch.setattr("projections.forwarding.forwarder.START_RETRY_S", 0.05)
    sink = Unready()
    async with started(a_forwarder(single, sink)) as waiting:
        runs = await conversations(single, 2)
        await eventually_async(lambda: all_sent(sink, runs), WAIT_S)
        assert not waiting.done()
    assert sink.starts == 2


async def test_a_defect_of_the_loop_ends_the_service(single: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error other than an outage of Redis ends the forwarder, and `wait` raises it."""

    async def broken(*_: object, **__: object) -> list[Notices]:
        raise LookupError("a defect")

    forwarder = a_forwarder(single, Recorder())
    async with started(forwarder) as waiting:
        await eventually_async(lambda: shares(single, {"c1": PARTITIONS}), WAIT_S)
        monkeypatch.setattr(ProjectionLog, "read_notices", broken)
        with pytest.raises(LookupError, match="a defect"):
            await asyncio.wait_for(waiting, WAIT_S)
