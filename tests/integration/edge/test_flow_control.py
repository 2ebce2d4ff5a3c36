"""The wait of a request at its backlog's bound."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge.errors import ApiError
from edge.ingest import flow_control
from edge.ingest.flow_control import FlowControl
from edge.ingest.log_appender import session_ended
from eventlog.events import SessionStarted
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import connect
from tests.integration.edge.replicas import PARTITIONS, TTL_S
from tests.support.waiting import eventually_async

STARTED = SessionStarted(session_id="7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a", sample_rate_hz=16_000)
BOUND_BYTES = 32_000
"""One second of samples."""


@pytest.fixture
async def log(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisLog]:
    """A log with one session, whose samples may be a second ahead."""
    monkeypatch.setattr(flow_control, "MIN_BACKLOG_S", 1)
    server = await connect(redis_url, partitions=PARTITIONS)
    found = RedisLog(server, session_ttl_s=TTL_S)
    await found.open(server.keys.of(STARTED.session_id), STARTED, "hash")
    yield found
    await server.close()


class Sender:
    """Waits by a flow control, and counts its waits."""

    def __init__(self, log: RedisLog) -> None:
        """Send to the session of `log`."""
        self.waits = 0
        self.error: ApiError | None = None
        self.is_over = False
        self.flow = FlowControl(
            log, log.server.keys.of(STARTED.session_id), STARTED, ahead_bytes=0, on_wait=self.on_wait,
            is_over=lambda: self.is_over,
        )  # fmt: skip

    async def on_wait(self) -> None:
        """Count a wait; raise if it is to end."""
        self.waits += 1
        if self.error is not None:
            raise self.error

    async def waiting(self) -> "asyncio.Task[int]":
        """Begin to wait for 100 bytes at the bound; return once it waits."""
        task = asyncio.create_task(self.flow.allowed_bytes(BOUND_BYTES, 100, 1))
        await eventually_async(lambda: self.waits > 0)
        return task


async def test_samples_within_the_bound_do_not_wait(log: RedisLog) -> None:
    """A chunk that ends at the bound is allowed whole, without a wait."""
    sender = Sender(log)
    assert await sender.flow.allowed_bytes(BOUND_BYTES - 100, 100, 1) == 100
    assert sender.waits == 0


async def test_samples_wait_for_the_checkpoint(log: RedisLog) -> None:
    """At the bound a sender waits, and then gets as many bytes as the worker's checkpoint moved (BATCH-1)."""
    sender = Sender(log)
    waiting = await sender.waiting()
    checkpoint = log.server.keys.of(STARTED.session_id).run().checkpoint
    await log.server.execute("HSET", checkpoint, "boundaries", "[10]")
    assert await waiting == 20


async def test_an_error_ends_the_wait(log: RedisLog) -> None:
    """The error that a wait's callback raises is the error of the sender (SESS-8)."""
    sender = Sender(log)
    waiting = await sender.waiting()
    sender.error = session_ended()
    with pytest.raises(ApiError, match="has ended"):
        await waiting


async def test_the_end_of_the_session_ends_the_wait(log: RedisLog) -> None:
    """A sender whose session has ended waits no more, and learns the end from its append."""
    sender = Sender(log)
    waiting = await sender.waiting()
    sender.is_over = True
    assert await waiting == 100
