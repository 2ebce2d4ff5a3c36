"""Peak memory of a stack's processes and its Redis, and the status messages of its sessions with their times."""

import contextlib
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import redis

from benchmarks.stack import Stack
from eventlog import keys
from eventlog.readmodel.statuses import StatusMessage, decode_status

SAMPLE_PERIOD_S = 0.25  # the kernel keeps a process's peak itself; only short-lived children could be missed
JOIN_S = 5.0


class ReceivedStatus(NamedTuple):
    """A status message, and when it came, Unix ms."""

    at_ms: float
    message: StatusMessage


class StackMonitor:
    """Measures while it is entered."""

    def __init__(self, stack: Stack) -> None:
        """Of `stack`."""
        self._pids = stack.pids
        self._redis: redis.Redis = redis.Redis.from_url(stack.redis_url)
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._measure_all, self._receive)]
        self.peak_rss_mib: dict[str, float] = {}
        """By role and number of the process, or of a process that it started."""
        self.redis_used_mib = 0.0
        self.statuses: list[ReceivedStatus] = []

    def __enter__(self) -> Self:
        self._channel = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call] # redis-py's
        self._channel.psubscribe(keys.status_channel("*"))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(JOIN_S)
        self._channel.close()
        self._redis.close()

    def _measure_all(self) -> None:
        while not self._stopped.wait(SAMPLE_PERIOD_S):
            for role, pids in self._pids.items():
                for number, pid in enumerate(pids, 1):
                    self._measure(f"{role} {number}", pid)
                    for child in _children(pid):
                        self._measure(f"{role} {number} child", child)
            info: dict[str, Any] = self._redis.info("memory")
            self.redis_used_mib = max(self.redis_used_mib, info["used_memory"] / 2**20)

    def _measure(self, name: str, pid: int) -> None:
        with contextlib.suppress(OSError):  # it ended meanwhile
            for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    peak_mib = int(line.split()[1]) / 1024
                    self.peak_rss_mib[name] = max(self.peak_rss_mib.get(name, 0.0), round(peak_mib, 1))

    def _receive(self) -> None:
        while not self._stopped.is_set():
            found = self._channel.get_message(timeout=SAMPLE_PERIOD_S)
            if found is not None:
                self.statuses.append(ReceivedStatus(time.time() * 1000, decode_status(found["data"])))


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(child) for path in Path(f"/proc/{pid}/task").glob("*/children")
            for child in path.read_text(encoding="ascii").split()
        ]  # fmt: skip
    return []
