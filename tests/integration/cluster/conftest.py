"""Three masters with a replica each, all roles as processes over them."""

from collections.abc import Iterator

import pytest

from tests.integration.cluster.failovers import ClusterRoles
from tests.support import servers
from tests.support.servers import Server


@pytest.fixture(scope="module")
def complete() -> Iterator[Server]:
    """A cluster with replicas; the tests of a file may break parts that they restore."""
    with servers.cluster(replicas=1) as server:
        for node in server.nodes:  # or the whole cluster would refuse to work while one node's slots have no master
            node.client.config_set("cluster-require-full-coverage", "no")
        yield server


@pytest.fixture(scope="module")
def roles(complete: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRoles]:
    """Two workers and the projections; edges are added by the tests."""
    with ClusterRoles(complete, tmp_path_factory.mktemp("roles")) as found:
        found.worker()
        found.worker()
        found.projector()
        yield found
