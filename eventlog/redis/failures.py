"""redis-py's failures: which of its errors mean an unreachable log, and the cancellations that it forgets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from redis.exceptions import (
    ClusterError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from eventlog.log import LogFullError, LogUnavailableError

if TYPE_CHECKING:
    from types import TracebackType

# The last two are answers of a server that can't serve now (failover, resharding); others of that kind are
# ConnectionErrors or ClusterErrors of redis-py, which takes the code off their text.
_UNAVAILABLE = (
    RedisConnectionError, RedisTimeoutError, ClusterError, RedisClusterException, OSError, TimeoutError, ReadOnlyError,
    TryAgainError,
)  # fmt: skip
# The same without a class of their own: a script that won't end, too few replicas, a disk that can't be written.
_TRY_AGAIN_PREFIXES = ("BUSY ", "NOREPLICAS ", "MISCONF ")
# The text of uvloop's RuntimeError for a write to a connection that was reset since its loop last looked.
_HANDLE_CLOSED = "the handler is closed"


def translate(error: Exception) -> Exception:
    """Return the `LogUnavailableError` that an error of redis-py stands for, or the error itself."""
    if isinstance(error, OutOfMemoryError):
        return LogFullError(str(error))
    if isinstance(error, _UNAVAILABLE):
        return LogUnavailableError(str(error) or type(error).__name__)
    if isinstance(error, ResponseError) and str(error).startswith(_TRY_AGAIN_PREFIXES):
        return LogUnavailableError(str(error))
    if isinstance(error, RuntimeError) and _HANDLE_CLOSED in str(error):
        return LogUnavailableError("the connection was reset")
    return error


class RedisCall:
    """Context of every await of redis-py: translates its errors, and ends the task if a cancellation got lost inside.

    Redis-py writes under `asyncio.wait_for`, which on Python 3.11 forgets a cancellation that comes as it ends.
    """

    __slots__ = ("_cancels_before", "_task")

    def __enter__(self) -> None:
        self._task = task = asyncio.current_task()
        if task is not None:
            # A cancellation requested while the task ran (Ctrl-C) is raised at the first await in here, and can get
            # lost as well, so it does not count as one from before.
            self._cancels_before = task.cancelling() - bool(getattr(task, "_must_cancel", False))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._task is not None and self._task.cancelling() > self._cancels_before:
            raise asyncio.CancelledError
        if isinstance(error, Exception) and (failure := translate(error)) is not error:
            raise failure from error
