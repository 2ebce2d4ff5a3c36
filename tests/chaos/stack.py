"""The roles as processes, each with a door of its own to Redis, and a supervisor that starts again what died."""

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
from tests.chaos.clock import Clock
from tests.chaos.gate import Gate
from tests.chaos.plan import EDGE, PROJECTOR, RESTART_S, WORKER
from tests.chaos.store import Store
from tests.support.commands import environment
from tests.support.waiting import eventually_async, lasting
from tests.support.watching import Watcher

START_S = 60.0
STOP_S = 30.0
LOOK_S = 0.05
CANCEL_AGAIN_S = 0.2
MARK = "CHAOS_RUN"
"""In the environment of every process of a run, grandchildren included."""


class Place(NamedTuple):
    """Where a role's processes get their code, and what they are told."""

    tree: Path
    variables: dict[str, str]


class Slot:
    """One role's place: at most one process at a time, always at the same address."""

    def __init__(self, role: str, place: Place, gate: Gate, clock: Clock, log: Path) -> None:
        """Its Redis lies behind `gate`; what it logs is added to the file `log`, whose name is also its own."""
        self.role = role
        self.name = log.stem
        self.place = place
        self.gate = gate
        self.clock = clock
        self.port = free_port() if role == EDGE else 0
        self.log = log
        self.pids: list[int] = []
        """Of all processes that it had, the present one last."""
        self.halted = False
        self.wanted = True
        """Whether somebody should start it again when it is dead."""
        self.unasked_exits: list[int] = []
        self._asked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: Watcher | None = None

    @property
    def pid(self) -> int:
        """The present process, or the last."""
        return self.pids[-1]

    @property
    def lives(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process."""
        options = ["--port", str(self.port)] if self.role == EDGE else []
        variables = {
            **self.place.variables, **self.clock.variables, "REDIS_URL": f"redis://127.0.0.1:{self.gate.port}",
            "PYTHONPATH": f"{self.place.tree}:{self.place.variables['PYTHONPATH']}",
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stenolog", self.role, *options], cwd=self.log.parent, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=environment(**variables), start_new_session=True,
            )
        self._watcher = Watcher(self._process.pid)
        self.pids.append(self._process.pid)
        self.halted = self._asked = False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; harmless if it is dead."""
        if self._process is not None:
            self._process.send_signal(number)
            self.halted = number == signal.SIGSTOP or (self.halted and number != signal.SIGCONT)

    async def gone(self) -> int:
        """Its exit status, once it is dead."""
        assert self._process is not None
        assert self._watcher is not None
        self._asked = True
        self._watcher.stop()
        status = await asyncio.to_thread(self._process.wait, STOP_S)
        self._process = None
        return status

    async def kill(self) -> None:
        """Kill -9."""
        if self._process is not None and not self._asked:
            self._asked = True
            self.send(signal.SIGKILL)
            await self.gone()

    def died_unasked(self) -> int | None:
        """The status of a process that ended by itself."""
        return self._process.poll() if self._process is not None and not self._asked else None


class Stack:
    """All the slots of a run."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        """Over the Redis of `store`; restarts come as `dice` say."""
        self.slots: list[Slot] = []
        self.deaths_by_poison = 0
        self.poisoned = 0
        """How many poisoned sessions may be killing workers just now."""
        self._store = store
        self._dice = dice
        self._restarts: set[asyncio.Task[None]] = set()

    def of(self, role: str) -> Sequence[Slot]:
        """The slots of a role."""
        return [slot for slot in self.slots if slot.role == role]

    def serving(self) -> list[int]:
        """Ports of the edges that have a process."""
        return [slot.port for slot in self.of(EDGE) if slot.lives]

    async def begin(self, slots: Sequence[Slot]) -> None:
        """Add these and start them; returns when all are at work."""
        for slot in slots:
            self.slots.append(slot)
            slot.start()
        for slot in slots:
            await self.working(slot)

    async def working(self, slot: Slot) -> None:
        """Return when it is at work: an edge listens, the others give signs of life."""
        await eventually_async(lambda: self.works(slot), START_S, f"{slot.name} works; its log is {slot.log}")

    async def works(self, slot: Slot) -> bool:
        """Whether it is at work."""
        if not slot.lives or slot.halted:
            return False
        try:
            names = await self._store.client.hkeys(heartbeats())
        except (redis.RedisError, OSError):
            return False
        return any(name.split(b" ")[1].rsplit(b"-", 2)[1] == str(slot.pid).encode() for name in names)

    async def kill(self, slot: Slot) -> None:
        """Kill it, and start it again after a while, as a supervisor does."""
        await slot.kill()
        self.start_later(slot)

    def start_later(self, slot: Slot) -> None:
        """Start it after a while."""
        task = asyncio.create_task(self._start_later(slot, self._dice.uniform(*RESTART_S)))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def supervise(self) -> None:
        """Start again whatever died by itself, until cancelled."""
        while True:
            for slot in self.slots:
                status = slot.died_unasked()
                if status is None or not slot.wanted:
                    continue
                await slot.gone()
                if status == -signal.SIGKILL and slot.role == WORKER and self.poisoned:
                    self.deaths_by_poison += 1
                else:
                    slot.unasked_exits.append(status)
                self.start_later(slot)
            await lasting(LOOK_S)

    async def replace(self, slot: Slot, place: Place) -> int:
        """Stop it in order, and start it again from another tree; the older process's exit status."""
        slot.wanted = False
        slot.send(signal.SIGTERM)
        status = await slot.gone()
        slot.place, slot.wanted = place, True
        slot.start()
        return status

    async def end(self) -> dict[str, int]:
        """Stop all in order, the edges first; their exit statuses."""
        for task in list(self._restarts):
            task.cancel()
        found = {}
        for role in (EDGE, WORKER, PROJECTOR):
            for slot in self.of(role):
                slot.wanted = False
                if slot.lives:
                    slot.send(signal.SIGCONT)
                    slot.send(signal.SIGTERM)
                    found[slot.name] = await slot.gone()
        return found

    async def clear(self) -> None:
        """Kill whatever is left, however the run went."""
        for task in list(self._restarts):
            task.cancel()
        for slot in self.slots:
            slot.wanted = False
            await slot.kill()

    async def _start_later(self, slot: Slot, pause_s: float) -> None:
        await lasting(pause_s)
        if slot.wanted and not slot.lives:
            slot.start()


def orphans(mark: str, known: Sequence[int] = ()) -> list[str]:
    """Processes of a run that are still there, but for those known."""
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


async def ended(task: asyncio.Future[None]) -> None:
    """Cancel it, and return when it is over: redis-py may swallow a cancellation that comes with an answer."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)


def now_s() -> float:
    """The clock that everything here is measured by."""
    return time.monotonic()
