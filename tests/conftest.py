"""Fixtures for all tests: real servers, started once when first asked for and emptied before each test."""

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import settings

from tests.support import servers
from tests.support.deployment import Deployment
from tests.support.servers import Server

# A shell that runs the tests in the background lets them ignore Ctrl-C, and whatever they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Whoever runs the tests may have credentials of AWS, which nothing that is started here shall find.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]
os.environ.update(
    AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true"
)


# The same examples each time: a change is judged by what it changes. `--hypothesis-profile=explore` draws others.
settings.register_profile("explore", deadline=None)
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests and fixtures run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def _standalone() -> Iterator[Server]:
    with servers.standalone() as server:
        yield server


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Server]:
    with servers.cluster() as server:
        yield server


@pytest.fixture
def standalone(_standalone: Server) -> Server:
    """One empty Valkey server."""
    _standalone.flush()
    return _standalone


@pytest.fixture
def cluster(_cluster: Server) -> Server:
    """An empty cluster of three Valkey servers."""
    _cluster.flush()
    return _cluster


@pytest.fixture
def redis_url(standalone: Server) -> str:
    """Address of one empty Valkey server."""
    return standalone.url


@pytest.fixture
def cluster_url(cluster: Server) -> str:
    """Address of one node of an empty cluster."""
    return cluster.url


@pytest.fixture(params=["standalone", "cluster"])
def server(request: pytest.FixtureRequest) -> Server:
    """An empty Redis, once single and once as a cluster."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def deployment(server: Server) -> AsyncIterator[Deployment]:
    """An empty deployment on one Redis, and once more on a cluster."""
    async with Deployment(server.url) as found:
        yield found


@pytest.fixture
async def single(standalone: Server) -> AsyncIterator[Deployment]:
    """An empty deployment on one Redis, for what a cluster would add nothing to."""
    async with Deployment(standalone.url) as found:
        yield found
