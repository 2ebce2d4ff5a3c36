"""A cluster of which one node is away: the events of the others are forwarded."""

import signal
from collections.abc import Iterator, Sequence

import pytest
from redis.asyncio.cluster import RedisCluster

from eventlog.keys import PartitionKeys, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server, connect
from tests.integration.forwarding.forwarders import FINALS, PARTITIONS, WAIT_S, forwarding, has_all, shares
from tests.integration.forwarding.sinks import Recorder
from tests.integration.projections.facts import a_run, conversation, notice, write
from tests.support import servers
from tests.support.servers import Node
from tests.support.servers import Server as TestServer
from tests.support.waiting import eventually_async

LONG_LEASE_MS = 60_000


@pytest.fixture(scope="module")
def breakable() -> Iterator[TestServer]:
    """A cluster of this file's own."""
    with servers.cluster() as server:
        for node in server.nodes:  # or the whole cluster would refuse to work without one node's slots
            node.client.config_set("cluster-require-full-coverage", "no")
        yield server


@pytest.mark.parametrize("number", range(3))
async def test_a_node_that_is_away_holds_up_its_own_runs_alone(breakable: TestServer, number: int) -> None:
    """While one node of a cluster doesn't answer the others' events are forwarded, and its own once it does."""
    node = breakable.nodes[number]
    breakable.flush()
    log = await connect(breakable.url, partitions=PARTITIONS, timeout_s=1.0)
    sink = Recorder()
    async with forwarding(log, sink, lease_ms=LONG_LEASE_MS):
        await eventually_async(lambda: shares(log, {"c1": PARTITIONS}), WAIT_S)
        runs = [a_run(log) for _ in range(30)]
        for keys in runs:
            await write(log, keys, conversation(keys, FINALS), with_notice=False)
        own = [keys for keys in runs if is_at(log, node, keys.partition)]
        others = [keys for keys in runs if keys not in own]
        node.process.send_signal(signal.SIGSTOP)
        try:
            await log.execute_many([command for keys in others for command in notice(keys)])
            await eventually_async(lambda: has_all(sink, others), WAIT_S)
        finally:
            node.process.send_signal(signal.SIGCONT)
        await eventually_async(lambda: notified(log, own), WAIT_S)
        await eventually_async(lambda: has_all(sink, own), WAIT_S)
    await log.close()


def is_at(log: Server, node: Node, partition: PartitionKeys) -> bool:
    """Whether a partition is on a node."""
    assert isinstance(log.client, RedisCluster)
    found = log.client.get_node_from_key(partition.changes)
    return found is not None and found.port == node.port


async def notified(log: Server, runs: Sequence[RunKeys]) -> bool:
    """Whether their notices could be written."""
    try:
        answers = await log.execute_many([command for keys in runs for command in notice(keys)])
    except LogUnavailableError:
        return False
    return not any(isinstance(answer, Exception) for answer in answers)
