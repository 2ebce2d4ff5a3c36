"""Fixtures of the tests of recorded files: an edge, and the rest of the path behind it."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import Replica, replica
from tests.support.speech import client_of


@pytest.fixture
async def path(redis_url: str) -> AsyncIterator[None]:
    """A worker with the mock recogniser, and all read models."""
    async with behind(redis_url):
        yield


@pytest.fixture
async def edge(redis_url: str) -> AsyncIterator[Replica]:
    """One edge on an empty Redis, nothing behind it."""
    async with replica(redis_url) as running:
        yield running


@pytest.fixture
async def http(edge: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of it."""
    async with client_of(edge) as client:
        yield client
