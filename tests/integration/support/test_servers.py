"""The tests' own servers."""

import subprocess
import sys

import redis
import redis.asyncio

from tests.support.servers import Server
from tests.support.tree import ROOT
from tests.support.waiting import eventually

OWNER = """
import sys
from tests.support.servers import standalone
with standalone() as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def test_both_servers_start_and_are_emptied(server: Server) -> None:
    """The fixture returns a server that answers and holds nothing."""
    client = redis.RedisCluster.from_url(server.url) if server.cluster else redis.Redis.from_url(server.url)
    with client:
        assert client.dbsize() == 0
        client.set("{left}over", 1)


async def test_coroutine_tests_reach_the_server(redis_url: str) -> None:
    """A coroutine test runs on asyncio against the same server."""
    async with redis.asyncio.from_url(redis_url) as client:
        assert await client.ping()


def test_no_server_outlives_a_killed_run() -> None:
    """After kill -9 of the process that started it, a test server is gone too."""
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        with redis.Redis.from_url(url) as client:
            assert client.ping()
        owner.kill()
    eventually(lambda: not answers(url))


def answers(url: str) -> bool:
    """Whether a server answers."""
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
