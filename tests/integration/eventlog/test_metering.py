"""The metrics of Redis calls, on one server and on a cluster."""

import pytest

import eventlog.redis.server
from eventlog.log import LogUnavailableError
from eventlog.redis.server import connect
from tests.support.metric_samples import Samples, of, samples
from tests.support.servers import Server
from tests.support.waiting import eventually_async

CONNECTIONS = "stenolog_redis_connections_opened_total"


def scraped(server: eventlog.redis.server.Server) -> Samples:
    """The metrics of a connection now."""
    return samples(server.meter.exposition("")[0].decode())


async def test_round_trips_are_timed_by_their_commands(server: Server) -> None:
    """A round trip is timed under its command, or as mixed if it has several kinds (OPS-3)."""
    connected = await connect(server.url)
    key = connected.keys.partitions[0].sessions
    await connected.execute("XLEN", key)
    await connected.execute_many([("XLEN", key), ("XLEN", key)])
    await connected.execute_many([("XLEN", key), ("EXISTS", key)])
    found = scraped(connected)
    await connected.close()
    count = "stenolog_redis_call_duration_seconds_count"
    assert (of(found, count, call="XLEN"), of(found, count, call="mixed")) == (2, 1)
    assert of(found, CONNECTIONS) > 0


async def test_an_unreachable_redis_is_counted(standalone: Server) -> None:
    """Calls to an unreachable Redis are counted, and so are the connections made once it answers (OPS-3)."""
    connected = await connect(standalone.url, timeout_s=0.5)
    await connected.execute("EXISTS", "x")
    before = of(scraped(connected), CONNECTIONS)
    standalone.pause_ms(1500)
    with pytest.raises(LogUnavailableError):
        await connected.execute("EXISTS", "x")
    assert of(scraped(connected), "stenolog_redis_unavailable_total", call="EXISTS") >= 1

    async def is_back() -> bool:
        try:
            return bool(await connected.execute("EXISTS", "x") == 0)
        except LogUnavailableError:
            return False

    await eventually_async(is_back)
    assert of(scraped(connected), CONNECTIONS) > before
    await connected.close()
