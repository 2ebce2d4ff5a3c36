"""Fixtures of the tests of runs that are set aside."""

from collections.abc import AsyncIterator

import pytest

from tests.processor.deployment import Deployment
from tests.support.servers import Server


@pytest.fixture
async def deployment(server: Server) -> AsyncIterator[Deployment]:
    """An empty deployment on one Redis, and once more on a cluster."""
    async with Deployment(server.url) as found:
        yield found


@pytest.fixture
async def single(standalone: Server) -> AsyncIterator[Deployment]:
    """An empty deployment on one Redis, for what Redis has no part in."""
    async with Deployment(standalone.url) as found:
        yield found
