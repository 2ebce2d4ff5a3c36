"""`stenolog nodes`, as a user sees it."""

import asyncio
import json
from pathlib import Path

from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import connect
from tests.integration.edge.replicas import PARTITIONS
from tests.integration.eventlog.stage import TOKEN, started
from tests.support.commands import stenolog
from tests.support.servers import Server

SESSIONS = 40


async def _sessions(url: str) -> None:
    server = await connect(url, partitions=PARTITIONS)
    log = RedisLog(server, session_ttl_s=600)
    for number in range(SESSIONS):
        await log.open(server.keys.of(f"s{number}"), started(f"s{number}"), TOKEN)
    await server.close()


def _variables(url: str) -> dict[str, str]:
    return {"REDIS_URL": url, "STENOLOG_PARTITIONS": str(PARTITIONS)}


def test_each_node_is_listed_with_its_load(server: Server, tmp_path: Path) -> None:
    """On one Redis and on a cluster every partition and run is counted at one node, beside its keys and load."""
    asyncio.run(_sessions(server.url))
    nodes = json.loads(stenolog("nodes", "--json", cwd=tmp_path, variables=_variables(server.url)).stdout)
    assert len(nodes) == len(server.nodes)
    assert sum(node["partitions"] for node in nodes) == PARTITIONS
    assert sum(node["runs"] for node in nodes) == SESSIONS
    assert all(node["keys"] > 0 and node["memory_bytes"] > 0 for node in nodes)
    assert {int(node["node"].rpartition(":")[2]) for node in nodes} == {node.port for node in server.nodes}


def test_a_person_reads_a_table(redis_url: str, tmp_path: Path) -> None:
    """Without --json each node is a line, below the names of the columns."""
    lines = stenolog("nodes", cwd=tmp_path, variables=_variables(redis_url)).stdout.decode().splitlines()
    assert lines[0].split()[:3] == ["node", "partitions", "runs"]
    assert lines[1].split()[1:3] == [str(PARTITIONS), "0"]
