"""The deployments that the tests of real processes share; each is started once per process of the test run."""

from collections.abc import Iterator

import pytest

from tests.e2e.deployment import Up, free_ports
from tests.support.waiting import eventually

LEASE_S = 1.5
"""Short, since tests wait for takeovers; the default is tested with Whisper."""

READY_STALE_S = 7
"""Heartbeats come every three seconds; a busy machine delays one."""

AUTH_SECRET = "a canary that sings in no log, and is long enough to sign with"
WORKERS = 2
METRICS_PORTS = 3


@pytest.fixture(scope="package")
def _shared_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(
        tmp_path_factory.mktemp("shared"), "--workers", str(WORKERS), STENOLOG_LEASE_MS=str(int(LEASE_S * 1000)),
        STENOLOG_READY_STALE_S=str(READY_STALE_S),
    ) as running:
        yield running


@pytest.fixture
def up(_shared_up: Up) -> Up:
    """A running deployment that tests share: `up` restarts whatever a test kills, before the next test begins."""
    eventually(lambda: _shared_up.is_complete(workers=WORKERS), message="the shared deployment is whole")
    return _shared_up


@pytest.fixture(scope="package")
def _shared_secured_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(
        tmp_path_factory.mktemp("secured"), "--host", "0.0.0.0", "--metrics-port", str(free_ports(METRICS_PORTS)),  # noqa: S104 - with tokens it may
        STENOLOG_AUTH="hs256", STENOLOG_AUTH_SECRET=AUTH_SECRET, STENOLOG_LOG_LEVEL="debug",
    ) as running:
        yield running


@pytest.fixture
def secured_up(_shared_secured_up: Up) -> Up:
    """As `up`, with tokens, on every address, with metrics, and logging all that it can."""
    eventually(lambda: _shared_secured_up.is_complete(workers=1), message="the shared deployment is whole")
    return _shared_secured_up
