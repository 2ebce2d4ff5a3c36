"""Fixtures of the edge's tests: edges, and the rest of the path behind them."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from eventlog.redis.server import connect
from eventlog.work.claims import Claims
from processor.recognisers import Recogniser, load
from processor.settings import WorkerSettings
from processor.worker import Worker
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.runner import ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from tests.integration.edge.replicas import PARTITIONS, TTL_S, Replica, replica


@pytest.fixture
async def edge(redis_url: str) -> AsyncIterator[Replica]:
    """One edge on an empty Redis, nothing behind it."""
    async with replica(redis_url, session_end_timeout_s=0.2) as running:
        yield running


@pytest.fixture
async def path(redis_url: str) -> AsyncIterator[None]:
    """A worker with the mock recogniser, and all projections."""
    async with behind(redis_url):
        yield


@contextlib.asynccontextmanager
async def behind(
    redis_url: str, recogniser: Recogniser | None = None, *, capacity: int = 1_000
) -> AsyncIterator[None]:
    """Runs what turns audio into read models, with the mock recogniser unless another is given."""
    server = await connect(redis_url, partitions=PARTITIONS)
    projections: list[Projection] = [Lists(), Feeds(), Sessions(session_ttl_s=TTL_S), Status()]
    runner = ProjectionRunner(server, projections, "test", session_ttl_s=TTL_S)
    await Claims(server, "test", lease_ms=5000, session_ttl_s=TTL_S).ensure_groups()
    settings = WorkerSettings(session_ttl_s=TTL_S, capacity=capacity)
    worker = Worker(server, settings, recogniser or load("mock"), trial=_never_alone)
    await runner.start()
    await worker.start()
    try:
        yield
    finally:
        await worker.stop()
        await runner.stop()
        await server.close()


async def _never_alone(*_: object) -> bool:
    raise AssertionError("no session of these tests kills its worker")
