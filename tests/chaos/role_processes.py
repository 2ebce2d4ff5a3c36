"""The roles as processes, each behind its own proxy to Redis, and a supervisor that restarts them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import redis

from eventlog.keys import heartbeats
from stenolog.local.embedded import free_port
from tests.chaos import older_names
from tests.chaos.clock import Clock
from tests.chaos.plan import EDGE, PROJECTOR, RESTART_S, WORKER
from tests.chaos.redis_process import RedisProcess
from tests.chaos.tcp_proxy import TcpProxy
from tests.support.commands import environment
from tests.support.waiting import eventually_async, lasting
from tests.support.watcher import Watcher

START_S = 60.0
STOP_S = 30.0
POLL_S = 0.05
CANCEL_AGAIN_S = 0.2
MARK = "CHAOS_RUN"
"""In the environment of every process of a run, grandchildren included."""


class Build(NamedTuple):
    """The source tree of a process, and its environment."""

    tree: Path
    variables: dict[str, str]


class RoleProcess:
    """One replaceable process of a role: at most one at a time, always at the same address."""

    def __init__(self, role: str, build: Build, proxy: TcpProxy, clock: Clock, log: Path) -> None:
        """Reach Redis by `proxy`, and append the log to the file `log`, whose stem is its name."""
        self.role = role
        self.name = log.stem
        self.build = build
        self.proxy = proxy
        self.clock = clock
        self.port = free_port() if role == EDGE else 0
        self.log = log
        self.pids: list[int] = []
        """Of all its processes, the present one last."""
        self.is_halted = False
        self.is_wanted = True
        """Whether the supervisor restarts it after its death."""
        self.unexpected_exits: list[int] = []
        self._is_expected_to_end = False
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: Watcher | None = None

    @property
    def pid(self) -> int:
        """The present process id, or the last one."""
        return self.pids[-1]

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process."""
        options = ["--port", str(self.port)] if self.role == EDGE else []
        variables = {
            **self.build.variables, **self.clock.variables, "REDIS_URL": f"redis://127.0.0.1:{self.proxy.port}",
            "PYTHONPATH": f"{self.build.tree}:{self.build.variables['PYTHONPATH']}",
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stenolog", older_names.command(self.build.tree, self.role), *options],
                cwd=self.log.parent, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=environment(**variables), start_new_session=True,
            )
        self._watcher = Watcher(self._process.pid)
        self.pids.append(self._process.pid)
        self.is_halted = self._is_expected_to_end = False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; a dead process gets none."""
        if self._process is not None:
            self._process.send_signal(number)
            self.is_halted = number == signal.SIGSTOP or (self.is_halted and number != signal.SIGCONT)

    async def wait_exit(self) -> int:
        """Wait for its end; returns the exit status."""
        assert self._process is not None
        assert self._watcher is not None
        self._is_expected_to_end = True
        self._watcher.stop()
        status = await asyncio.to_thread(self._process.wait, STOP_S)
        self._process = None
        return status

    async def kill(self) -> None:
        """Send SIGKILL and wait for its end."""
        if self._process is not None and not self._is_expected_to_end:
            self._is_expected_to_end = True
            self.send(signal.SIGKILL)
            await self.wait_exit()

    def unexpected_status(self) -> int | None:
        """The exit status of a process that ended by itself, otherwise None."""
        return self._process.poll() if self._process is not None and not self._is_expected_to_end else None


class RoleProcesses:
    """All the processes of a run."""

    def __init__(self, redis_process: RedisProcess, dice: random.Random) -> None:
        """Watch heartbeats in `redis_process`; `dice` draws the delays of restarts."""
        self.processes: list[RoleProcess] = []
        self.deaths_by_poison = 0
        self.poisoned = 0
        """Number of poisoned sessions that may kill workers at present."""
        self._redis_process = redis_process
        self._dice = dice
        self._restarts: set[asyncio.Task[None]] = set()

    def of(self, role: str) -> Sequence[RoleProcess]:
        """The processes of a role."""
        return [process for process in self.processes if process.role == role]

    def edge_ports(self) -> list[int]:
        """Ports of the running edges."""
        return [process.port for process in self.of(EDGE) if process.is_alive]

    async def start(self, processes: Sequence[RoleProcess]) -> None:
        """Add these and start them; returns when all are ready."""
        for process in processes:
            self.processes.append(process)
            process.start()
        for process in processes:
            await self.wait_ready(process)

    async def wait_ready(self, process: RoleProcess) -> None:
        """Wait until it is ready: until it has a heartbeat."""
        await eventually_async(lambda: self.is_ready(process), START_S, f"{process.name} is ready; log: {process.log}")

    async def is_ready(self, process: RoleProcess) -> bool:
        """Whether it runs and has a heartbeat."""
        if not process.is_alive or process.is_halted:
            return False
        try:
            names = await self._redis_process.client.hkeys(heartbeats())
        except (redis.RedisError, OSError):
            return False
        return any(name.split(b" ")[1].rsplit(b"-", 2)[1] == str(process.pid).encode() for name in names)

    async def kill(self, process: RoleProcess) -> None:
        """Kill it and restart it after a delay, as a supervisor does."""
        await process.kill()
        self.start_later(process)

    def start_later(self, process: RoleProcess) -> None:
        """Start it after a drawn delay."""
        task = asyncio.create_task(self._start_later(process, self._dice.uniform(*RESTART_S)))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def supervise(self) -> None:
        """Restart every process that ended by itself, until cancelled."""
        while True:
            for process in self.processes:
                status = process.unexpected_status()
                if status is None or not process.is_wanted:
                    continue
                await process.wait_exit()
                if status == -signal.SIGKILL and process.role == WORKER and self.poisoned:
                    self.deaths_by_poison += 1
                else:
                    process.unexpected_exits.append(status)
                self.start_later(process)
            await lasting(POLL_S)

    async def replace(self, process: RoleProcess, build: Build) -> int:
        """Stop it gracefully and start it from another tree; returns the older process's exit status."""
        process.is_wanted = False
        process.send(signal.SIGTERM)
        status = await process.wait_exit()
        process.build, process.is_wanted = build, True
        process.start()
        return status

    async def stop(self) -> dict[str, int]:
        """Stop all gracefully, the edges first; returns their exit statuses."""
        for task in list(self._restarts):
            task.cancel()
        found = {}
        for role in (EDGE, WORKER, PROJECTOR):
            for process in self.of(role):
                process.is_wanted = False
                if process.is_alive:
                    process.send(signal.SIGCONT)
                    process.send(signal.SIGTERM)
                    found[process.name] = await process.wait_exit()
        return found

    async def clear(self) -> None:
        """Kill every remaining process."""
        for task in list(self._restarts):
            task.cancel()
        for process in self.processes:
            process.is_wanted = False
            await process.kill()

    async def _start_later(self, process: RoleProcess, pause_s: float) -> None:
        await lasting(pause_s)
        if process.is_wanted and not process.is_alive:
            process.start()


def orphans(mark: str, known: Sequence[int] = ()) -> list[str]:
    """Processes of a run that still exist, except those in `known`."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            variables = (directory / "environ").read_bytes()
            state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        pid = int(directory.name)
        if f"{MARK}={mark}".encode() in variables and state != "Z" and pid not in {*known, os.getpid()}:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append(f"{pid} {command}")
    return found


async def cancel(task: asyncio.Future[None]) -> None:
    """Cancel a task and wait for its end: redis-py may swallow a cancellation that comes with a reply."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)


def now_s() -> float:
    """The clock of every measurement here."""
    return time.monotonic()
