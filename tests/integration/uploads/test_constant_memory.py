"""A recording far larger than what may be held of it, through real processes: memory stays, and so do its words."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.upload import LongWav, MemoryMonitor, transcribed
from tests.e2e.processes import Roles
from tests.support.waiting import eventually

AHEAD_BYTES = 2 << 20
SIZE_BYTES = 48 * AHEAD_BYTES
RETENTION_S = 20
# Samples in Redis: those kept behind the checkpoint, those decoded ahead of it, in steps of ten seconds.
AUDIO_BYTES = (RETENTION_S + 60 + 20) * 32_000
OVERHEAD = 1.5  # of a byte in a stream, and of bytes under way
CLIENT_S = 170.0
GROWTH_MIB = 24  # of a process: buffers of sockets and pipes, and the allocator's own


@pytest.fixture
def roles(redis_url: str, tmp_path: Path) -> Iterator[Roles]:
    """Processes that let little of an upload be ahead."""
    with Roles(
        redis_url, tmp_path, STENOLOG_MAX_UPLOAD_AHEAD_BYTES=str(AHEAD_BYTES), STENOLOG_LEASE_MS="2000",
        STENOLOG_AUDIO_RETENTION_S=str(RETENTION_S), STENOLOG_RESULT_TIMEOUT_S="600",
    ) as roles:
        yield roles


class Sending(threading.Thread):
    """A client that sends its recording meanwhile."""

    def __init__(self, url: str, wav: LongWav) -> None:
        """Send `wav` to the edge at `url`."""
        super().__init__(daemon=True)
        self._url, self._wav = url, wav
        self.found: dict[str, Any] = {}

    def run(self) -> None:
        """Send all of it, and wait for its transcript."""
        self.found = transcribed(self._url, self._wav, timeout_s=CLIENT_S)


def words_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The finals' texts and times."""
    said: list[dict[str, Any]] = found["utterances"]
    return said


def freed_bytes(roles: Roles, known: set[str]) -> int:
    """Up to where the bytes of an upload are gone that isn't among the known ones."""
    new = set(roles.redis.scan_iter("*:upload-guard:*", count=1_000)) - known
    records = [roles.redis.hget(key, "restart") for key in new]
    return max((int(json.loads(str(record))["offset_bytes"]) for record in records if record), default=0)


def test_a_long_upload_costs_no_memory_and_survives_its_worker(roles: Roles, redis_url: str) -> None:
    """BATCH-1, SAFE-1: memory of all processes and of Redis is bounded, and a killed worker changes not a word."""
    edge, _, worker = roles.edge(), roles.projector(), roles.worker()
    wav = LongWav(SIZE_BYTES)
    pids = {"edge": [edge.pid], "worker": [worker.pid]}
    with MemoryMonitor(redis_url, pids) as watch:
        undisturbed = Sending(edge.url, wav)
        undisturbed.start()
        undisturbed.join(CLIENT_S)
        known = set(roles.redis.scan_iter("*:upload-guard:*", count=1_000))
        killed = Sending(edge.url, wav)
        killed.start()
        eventually(lambda: freed_bytes(roles, known) > SIZE_BYTES // 2, 60)
        worker.send(signal.SIGKILL)
        pids["worker"] = [roles.worker().pid]
        killed.join(CLIENT_S)
    assert len(words_of(undisturbed.found)) >= int(wav.seconds) // 60
    assert words_of(killed.found) == words_of(undisturbed.found)
    bound_mib = OVERHEAD * (AHEAD_BYTES + AUDIO_BYTES) / 2**20
    assert watch.most_mib["redis"] - watch.first_mib["redis"] < bound_mib < SIZE_BYTES / 2**20 / 8
    for role in ("edge", "worker"):
        assert watch.most_mib[role] - watch.first_mib[role] < GROWTH_MIB
    assert watch.most_mib["decoder"] < 80
