"""A recording larger than any memory: `python -m benchmarks.upload --gib 2`.

Sends a WAV that is made on the way, mostly silence, to a stack of its own over HTTP, and prints a JSON line: how long
it took, and the most memory that each process and Redis ever held. docs/uploads.md has results.
"""

from __future__ import annotations

import argparse
import http.client
import json
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
import redis
import soxr

from benchmarks import clips
from benchmarks.stack import Stack

RATE_HZ = 48_000
CHANNELS = 2
PERIOD_S = 60
BLOCK_BYTES = 1 << 20
SAMPLE_PERIOD_S = 0.1
REQUEST_S = 1_800.0


class LongWav:
    """A WAV of any length: a spoken sentence at the beginning of every minute, then digital silence."""

    def __init__(self, size_bytes: int) -> None:
        """Hold one minute of it, whatever its size."""
        self.data_bytes = size_bytes - size_bytes % (2 * CHANNELS)
        speech = np.frombuffer(clips.sentences()[0].pcm, "<i2")
        sentence = soxr.resample(speech, clips.RATE_HZ, RATE_HZ)
        minute = np.zeros((PERIOD_S * RATE_HZ, CHANNELS), "<i2")
        minute[: len(sentence)] = sentence[:, None]
        self._minute = minute.tobytes()

    def __len__(self) -> int:
        """Its size in bytes, with its header."""
        return len(self.header) + self.data_bytes

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return self.data_bytes / (2 * CHANNELS * RATE_HZ)

    @property
    def header(self) -> bytes:
        """What comes before the samples."""
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, CHANNELS, RATE_HZ, 2 * CHANNELS * RATE_HZ, 2 * CHANNELS, 16)
        total_bytes = 4 + len(form) + 8 + self.data_bytes
        riff, data = (b"RIFF", total_bytes, b"WAVE"), (b"data", self.data_bytes)
        return struct.pack("<4sI4s", *riff) + form + struct.pack("<4sI", *data)

    def blocks(self) -> Iterator[bytes]:
        """All of it, a block at a time."""
        yield self.header
        for at in range(0, self.data_bytes, BLOCK_BYTES):
            size, start = min(BLOCK_BYTES, self.data_bytes - at), at % len(self._minute)
            block = self._minute[start : start + size]
            yield block + self._minute[: size - len(block)]


def transcribed(url: str, wav: LongWav, *, timeout_s: float = REQUEST_S) -> dict[str, Any]:
    """Send a recording in one request; its transcript, which is waited for."""
    host = urlsplit(url).netloc
    connection = http.client.HTTPConnection(host, timeout=timeout_s)
    headers = {"Content-Type": "audio/wav", "Content-Length": str(len(wav))}
    connection.request("POST", "/v1/transcribe", wav.blocks(), headers)
    answer = connection.getresponse()
    found: dict[str, Any] = json.load(answer)
    connection.close()
    deadline = time.monotonic() + timeout_s
    while answer.status == http.client.ACCEPTED and "utterances" not in found and time.monotonic() < deadline:
        time.sleep(SAMPLE_PERIOD_S)
        connection = http.client.HTTPConnection(host, timeout=timeout_s)
        connection.request("GET", f"/v1/sessions/{found['session_id']}/transcript")
        response = connection.getresponse()
        body = json.load(response)
        found = body if response.status == http.client.OK and body.get("reason") else found
        connection.close()
    if "utterances" not in found:
        raise SystemExit(f"no transcript: {answer.status} {found}")
    return found


class MemoryMonitor:
    """Samples the memory of processes, of their children, and of a Redis; a context manager."""

    def __init__(self, redis_url: str, pids: dict[str, list[int]]) -> None:
        """Watch these processes by name; a decoder counts as `decoder`, of any parent."""
        self._redis = redis.Redis.from_url(redis_url)
        self.pids = pids
        self.most_mib: dict[str, float] = {}
        self.first_mib: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._measure()
        self.first_mib = dict(self.most_mib)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_PERIOD_S):
            self._measure()

    def _measure(self) -> None:
        self._record("redis", int(self._redis.info("memory")["used_memory"]) / 2**20)
        for name, pids in list(self.pids.items()):
            for pid in pids:
                self._record(name, _rss_mib(pid))
                for child in _children(pid):
                    self._record("decoder", _rss_mib(child))

    def _record(self, name: str, mib: float) -> None:
        self.most_mib[name] = max(round(mib, 1), self.most_mib.get(name, 0.0))


def _rss_mib(pid: int) -> float:
    """The most that a process has held; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def _children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [int(child) for child in found]


def main() -> None:
    """Run one upload and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upload", description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0, help="size of the recording")
    parser.add_argument("--ahead-mib", type=int, default=64, help="STENOLOG_MAX_UPLOAD_AHEAD_BYTES")
    parser.add_argument("--engine", default="mock")
    arguments = parser.parse_args()
    wav = LongWav(int(arguments.gib * 2**30) - 44)
    settings = {"STENOLOG_MAX_UPLOAD_AHEAD_BYTES": str(arguments.ahead_mib << 20)}
    with Stack(engine=arguments.engine, environment=settings) as stack:
        pids = {role: pids for role, pids in stack.pids.items() if role != "redis"}
        with MemoryMonitor(stack.redis_url, pids) as watch:
            started = time.monotonic()
            found = transcribed(stack.url, wav)
            took_s = time.monotonic() - started
    print(json.dumps({
        "gib": arguments.gib, "audio_s": round(wav.seconds), "took_s": round(took_s, 1),
        "times_real_time": round(wav.seconds / took_s), "utterances": len(found["utterances"]),
        "first_mib": watch.first_mib, "most_mib": watch.most_mib,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
