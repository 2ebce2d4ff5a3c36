"""Fixtures of the webhooks' tests."""

from collections.abc import AsyncIterator

import pytest

from eventlog.projection.webhook_subscriptions import Subscriptions
from eventlog.redis.server import Server, connect
from projections.webhooks import Webhooks
from tests.integration.webhooks.receivers import Receiver, receiving
from tests.support.clock import Clock

PARTITIONS = 8


@pytest.fixture
def clock() -> Clock:
    """Of the sink under test."""
    return Clock()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Server]:
    """A connection to an empty Redis."""
    server = await connect(redis_url, partitions=PARTITIONS)
    yield server
    await server.close()


@pytest.fixture
def subscriptions(redis: Server) -> Subscriptions:
    """Those of the deployment."""
    return Subscriptions(redis)


@pytest.fixture
async def sink(redis: Server, clock: Clock) -> AsyncIterator[Webhooks]:
    """A sink that may reach the tests' receivers, and waits for them as long as a busy machine needs."""
    made = Webhooks(redis, private=True, hold_s=30.0, timeout_s=30.0, clock=clock)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """One receiver."""
    async with receiving() as running:
        yield running


@pytest.fixture
async def other() -> AsyncIterator[Receiver]:
    """Another."""
    async with receiving() as running:
        yield running
