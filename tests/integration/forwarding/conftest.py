"""Fixtures of the forwarders' tests."""

from collections.abc import AsyncIterator

import pytest

from eventlog.redis.server import Server, connect
from tests.integration.forwarding.forwarders import PARTITIONS
from tests.support.servers import Server as TestServer


@pytest.fixture
async def log(server: TestServer) -> AsyncIterator[Server]:
    """A connection to an empty Redis, once single and once a cluster."""
    connected = await connect(server.url, partitions=PARTITIONS)
    yield connected
    await connected.close()


@pytest.fixture
async def single(standalone: TestServer) -> AsyncIterator[Server]:
    """A connection to an empty single Redis, where a cluster would add nothing."""
    connected = await connect(standalone.url, partitions=PARTITIONS)
    yield connected
    await connected.close()
