"""The count of recent errors."""

import logging

from eventlog.redis.server import connect
from eventlog.telemetry import error_counts
from eventlog.telemetry.error_counts import MAX_COUNTED, WINDOW_S, ErrorCounter
from eventlog.work import heartbeats


def record(level: int) -> logging.LogRecord:
    """A record of a severity."""
    return logging.LogRecord("edge", level, "file", 1, "something", None, None)


def test_errors_count_for_five_minutes() -> None:
    """Errors and worse count, warnings don't, and each for five minutes by the clock (STITCH-8)."""
    now_s = 1000.0
    count = ErrorCounter(lambda: now_s)
    logger = logging.Logger("one")  # noqa: LOG001 - apart from the tree, whose other handlers would print
    logger.addHandler(count)
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.handle(record(level))
    assert count.recent() == 2
    now_s += WINDOW_S - 1
    logger.handle(record(logging.ERROR))
    assert count.recent() == 3
    now_s += 2
    assert count.recent() == 1


def test_the_counter_is_bounded() -> None:
    """An endless run of errors costs no more memory than the bound."""
    count = ErrorCounter()
    for _ in range(2 * MAX_COUNTED):
        count.handle(record(logging.ERROR))
    assert count.recent() == MAX_COUNTED


async def test_heartbeats_have_the_count(redis_url: str) -> None:
    """Each heartbeat has the number of errors that its process logged lately (STITCH-8)."""
    server = await connect(redis_url)
    before = error_counts.PROCESS_ERRORS.recent()
    error_counts.PROCESS_ERRORS.handle(record(logging.ERROR))
    await heartbeats.write(server, "worker", "one", {"runs": 1})
    [beat] = await heartbeats.read_all(server)
    assert beat.payload == {"runs": 1, heartbeats.ERRORS: before + 1}
    await server.close()
