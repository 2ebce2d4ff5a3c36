"""Connecting to a deployment, and to servers that can't be one."""

import pytest
from redis.asyncio.cluster import RedisCluster

from eventlog.log import LogUnavailableError
from eventlog.redis.packing import PackingConnection
from eventlog.redis.server import DeploymentMismatchError, connect
from stenolog.local.embedded import free_port
from tests.support.servers import Server


@pytest.fixture(params=["standalone", "cluster"])
def evicting(request: pytest.FixtureRequest) -> Server:
    """A Redis of which one node evicts keys for the time of a test."""
    server: Server = request.getfixturevalue(request.param)
    node = server.nodes[-1]
    node.client.config_set("maxmemory-policy", "allkeys-lru")
    request.addfinalizer(lambda: node.client.config_set("maxmemory-policy", "noeviction"))  # noqa: PT021 - one line does
    return server


async def test_evicting_redis_is_refused(evicting: Server) -> None:
    """A Redis that would evict keys under memory pressure is refused with the setting to change."""
    with pytest.raises(DeploymentMismatchError, match="noeviction"):
        await connect(evicting.url)


async def test_other_partition_count_is_refused(server: Server) -> None:
    """A process with another number of partitions than the deployment's refuses to start and names the right one."""
    await (await connect(server.url, partitions=8)).close()
    with pytest.raises(DeploymentMismatchError, match="STENOLOG_PARTITIONS=8"):
        await connect(server.url, partitions=16)


async def test_unreachable_redis_is_unavailable() -> None:
    """An absent Redis is reported as unavailable, not as an error of the client library."""
    with pytest.raises(LogUnavailableError):
        await connect(f"redis://127.0.0.1:{free_port()}")


async def test_connections_pack_by_hiredis(server: Server) -> None:
    """Every connection to every node packs commands by hiredis, on one Redis and on a cluster."""
    connected = await connect(server.url)
    try:
        client = connected.client
        if isinstance(client, RedisCluster):
            kinds: set[type] = {node.connection_class for node in client.get_nodes()}
        else:
            kinds = {client.connection_pool.connection_class}
        assert kinds == {PackingConnection}
    finally:
        await connected.close()
