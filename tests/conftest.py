"""Fixtures and markers of all tests: real servers, started once when first needed and emptied before each test."""

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import settings

from tests.support import servers
from tests.support.deployment import Deployment
from tests.support.servers import Server
from tests.support.tree import ROOT

# A shell that runs the tests in the background ignores Ctrl-C for them, and their processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The user may have credentials of AWS, which no process of the tests may find.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]
os.environ.update(
    AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true"
)

E2E = ("tests/e2e/", "tests/chaos/test_short.py", "tests/chaos/test_upgrade.py")
"""Tests of real processes of several roles."""

SLOW = (
    *E2E, "tests/simulation/test_simulation.py",
    *(f"tests/integration/{name}.py" for name in (
        "cli/test_doctor_local", "cluster/test_failover", "decoding/test_hostile", "decoding/test_pieces",
        "decoding/test_restarts", "decoding/test_worker_failures", "edge/test_openapi", "edge/test_sessions_delete",
        "edge/test_sse_resume",
        "eventbridge/test_path", "paths/test_chunk_path", "paths/test_event_path", "eventlog/test_cluster",
        "forwarding/test_processes", "kafka/test_subscriber", "memory/test_draining", "quarantine/test_commands",
        "recognisers/test_asr_benchmark", "recognisers/test_whisper", "recognisers/test_whisper_options",
        "recognisers/test_whisper_sweep", "recognisers/test_whisper_words", "replay/test_beside_clients",
        "stitch/test_deletion", "stitch/test_properties", "stitch/test_projection_failures",
        "uploads/test_constant_memory",
    )),
)  # fmt: skip
"""Folders and modules with a test that takes over 5 s on two cores; `make test ARGS=--durations=50` shows them."""

# The same examples each time: a change is judged by what it changes. `--hypothesis-profile=explore` draws others.
settings.register_profile("explore", deadline=None)
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `E2E` and `SLOW`, before pytest selects by markers."""
    for item in items:
        path = item.path.relative_to(ROOT).as_posix()
        if path.startswith(E2E):
            item.add_marker(pytest.mark.e2e)
        if path.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


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
    """An empty deployment, on one Redis and on a cluster."""
    async with Deployment(server.url) as found:
        yield found


@pytest.fixture
async def single(standalone: Server) -> AsyncIterator[Deployment]:
    """An empty deployment on one Redis, for tests to which a cluster adds nothing."""
    async with Deployment(standalone.url) as found:
        yield found
