"""The log contract on fakeredis: the whole conformance suite in seconds, without a server.

fakeredis differs from Redis in what `tests.support.fake_server` strips and in `DIFFERENCES`; claims, projections and
clusters are therefore tested on real servers alone.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.integration.eventlog import test_conformance
from tests.integration.eventlog.stage import PARTITIONS, Stage
from tests.support.fake_server import FakeServer

DIFFERENCES = {
    "#!lua flags=no-writes\nreturn 1": "fakeredis hands a script's first line to Lua, where it is a syntax error",
    "local made = redis.pcall('HSET', 'key') return string.sub(made.err, 1, 3)":
        "the error of a failed `redis.pcall` is userdata instead of a string",
}
"""Script that Redis runs, to what fakeredis does instead; the second breaks `ensure_group`: every consumer group."""

# Each case of the suite, with the fixture below in place of the servers.
CASES: dict[str, Callable[..., Any]] = {
    name: case for name, case in vars(test_conformance).items() if name.startswith("test_")
}
globals().update(CASES)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """The log on an empty fakeredis."""
    server = FakeServer(PARTITIONS)
    yield Stage(server)
    await server.close()


@pytest.mark.parametrize("text", DIFFERENCES)
async def test_declared_differences_are_still_there(text: str) -> None:
    """Fakeredis fails a script that Redis runs; once it doesn't, the difference goes and more tests can run on it."""
    server = FakeServer(PARTITIONS)
    with pytest.raises(Exception, match="Error running script"):
        await server.client.eval(text, 0)
    await server.close()
