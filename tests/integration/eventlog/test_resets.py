"""A connection that is reset just before something is written to it."""

import asyncio

import pytest
import uvloop
from redis.asyncio import Redis

from eventlog.keys import Keys
from eventlog.log import LogUnavailableError
from eventlog.redis.failures import RedisCall, translate
from eventlog.redis.server import Server
from eventlog.redis.wakeups import Wakeups, _Connection
from stenolog.local.embedded import free_port
from tests.support.waiting import eventually_async


async def write_raw() -> None:
    """Write to a connection whose handle uvloop has closed already, which its stream doesn't know yet."""
    server = await asyncio.start_server(lambda _reader, writer: writer.transport.abort(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.transport.abort()
    await eventually_async(lambda: "closed=True" in repr(writer.transport))
    try:
        writer.writelines([b"PING"])
    finally:
        server.close()


async def write_after_reset() -> None:
    """Write in the context that every call of Redis has."""
    with RedisCall():
        await write_raw()


def test_a_write_to_a_connection_that_was_reset_is_an_unreachable_server() -> None:
    """SAFE-1: uvloop's error for it counts as an unreachable Redis, so that no defect is logged."""
    with pytest.raises(LogUnavailableError, match="reset"):
        uvloop.run(write_after_reset())


async def subscribe_in_vain(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscribe at an address whose connections are reset under the first write."""
    monkeypatch.setattr(_Connection, "subscribe", lambda _self, _channels: write_raw())
    server = Server(Redis(port=free_port()), Keys(1), "redis://127.0.0.1")
    wakeups = Wakeups(server, ["{0}:bell"], on_message=lambda *_: None, on_reset=lambda: None)
    await wakeups.start()
    await eventually_async(lambda: any("wake-ups lost" in record.message for record in caplog.records))
    await wakeups.stop()


def test_wakeups_take_a_reset_for_a_lost_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAFE-1: a listener whose connection is reset under a write comes back without logging a defect."""
    uvloop.run(subscribe_in_vain(caplog, monkeypatch))
    assert {record.levelname for record in caplog.records if "wake-ups lost" in record.message} == {"WARNING"}


def test_other_defects_stay_defects() -> None:
    """A RuntimeError of our own doesn't count as an unreachable server."""
    error = RuntimeError("ours")
    assert translate(error) is error
