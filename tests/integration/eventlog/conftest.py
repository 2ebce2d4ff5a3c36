"""Fixtures of the log's tests."""

from collections.abc import AsyncIterator

import pytest

from eventlog.redis.server import connect
from tests.integration.eventlog.stage import PARTITIONS, Stage
from tests.support.servers import Server


@pytest.fixture
async def stage(server: Server) -> AsyncIterator[Stage]:
    """The log on an empty Redis, once single and once as a cluster."""
    connected = await connect(server.url, partitions=PARTITIONS)
    yield Stage(connected)
    await connected.close()


@pytest.fixture
async def single(standalone: Server) -> AsyncIterator[Stage]:
    """The log on one empty Redis, for tests that don't concern clusters."""
    connected = await connect(standalone.url, partitions=PARTITIONS)
    yield Stage(connected)
    await connected.close()
