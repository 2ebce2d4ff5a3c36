"""The suite's own Redis with an append-only file, which faults stop, kill, pause, halt and cut off from power."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from stenolog.local.embedded import free_port
from tests.chaos.clock import Clock
from tests.support.servers import SERVER
from tests.support.waiting import eventually_async, lasting
from tests.support.watcher import Watcher

RedisClient = Any
"""A `redis.asyncio.Redis` without decoding; its replies are as various as Redis's commands."""

ANSWER_S = 5.0
START_S = 60.0
PROBE = "chaos:probe"
SYNC_MS = 2000
"""Redis syncs its file every second; a busy disk takes longer."""


class PowerLoss(NamedTuple):
    """One loss of power and what it took."""

    synced_s: float
    """Monotonic time up to which everything was on disk for certain."""
    at_s: float
    lost_bytes: int


class RedisProcess:
    """One server process at a time, always in the same directory and on the same port."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Keep data in `directory`, with the wall clock `clock`."""
        self.port = free_port()
        self.clock = clock
        self.losses: list[PowerLoss] = []
        self.client: RedisClient = redis.asyncio.Redis(
            port=self.port, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0)
        )
        self.fault_lock = asyncio.Lock()
        """The present fault of Redis holds it: a stopped server can't be halted."""
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: Watcher | None = None
        self._synced: tuple[float, dict[Path, int]] = (0.0, {})
        directory.mkdir(parents=True)

    @property
    def url(self) -> str:
        """Its address without a proxy."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def synced_bytes(self) -> int:
        """How much of its file is on disk for certain."""
        return sum(self._synced[1].values())

    async def start(self) -> None:
        """Start it on the existing files; returns when it answers."""
        command = [
            SERVER, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory), "--save", "",
            "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-min-size", "1gb",
            "--maxmemory-policy", "noeviction",
        ]  # fmt: skip
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **self.clock.variables}
            )
        self._watcher = Watcher(self._process.pid)
        await eventually_async(self.answers, START_S, f"Redis answers; its log is in {self._directory}")

    async def answers(self) -> bool:
        """Whether it answers, with its data loaded."""
        with contextlib.suppress(redis.RedisError, OSError):
            return bool(await self.client.ping())
        return False

    async def end(self, number: signal.Signals) -> None:
        """End it by SIGTERM or SIGKILL; returns once it has exited."""
        if self._process is None or self._watcher is None:
            return
        self._watcher.stop()
        self._process.send_signal(number)
        await asyncio.to_thread(self._process.wait)
        self._process = None

    def send(self, number: signal.Signals) -> None:
        """Halt or continue it."""
        assert self._process is not None
        self._process.send_signal(number)

    async def pause(self, duration_ms: int) -> None:
        """Delay every command."""
        await self.client.execute_command("CLIENT", "PAUSE", duration_ms, "ALL")

    async def lose_power(self) -> None:
        """Kill it and truncate its file to the last known sync; the caller starts it again."""
        await self.end(signal.SIGKILL)
        synced_s, sizes = self._synced
        lost = 0
        for path, size in sizes.items():
            lost += path.stat().st_size - size
            os.truncate(path, size)
        self.losses.append(PowerLoss(synced_s, time.monotonic(), lost))

    async def watch_syncs(self) -> None:
        """Track how much of the file is on disk: WAITAOF answers once all writes before it are synced."""
        while True:
            try:
                before_s, sizes = time.monotonic(), self._sizes()
                await self.client.set(PROBE, "", px=60_000)
                synced: list[int] = await self.client.execute_command("WAITAOF", 1, 0, SYNC_MS)
                if synced[0]:
                    self._synced = before_s, sizes
            except (redis.RedisError, OSError):
                await lasting(0.05)

    async def close(self) -> None:
        """End it in whatever state it is."""
        await self.client.aclose()
        await self.end(signal.SIGKILL)

    def _sizes(self) -> dict[Path, int]:
        return {path: path.stat().st_size for path in self._directory.glob("appendonlydir/*.incr.aof")}
