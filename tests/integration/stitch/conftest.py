"""Fixtures of the properties."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.stitch.path import Path, running


@pytest.fixture
async def path(redis_url: str) -> AsyncIterator[Path]:
    """The whole path on an empty Redis."""
    async with running(redis_url) as found:
        yield found
