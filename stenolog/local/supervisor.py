"""Keeps the roles of `stenolog up` running: each a process of its own, restarted when it exits, ended in order.

A role exits by itself when one of its services ends by a defect: the restart is how it recovers.
"""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

MIN_RESTART_S, MAX_RESTART_S = 0.2, 10.0
"""Pauses before a restart double from the first to the second: most exits are accidents; a loop must stay cheap."""

STEADY_S = 30.0
"""A role that ran for so long gets the shortest pause again."""

STOP_TIMEOUT_S = 15.0
"""After SIGTERM a role has this long before it is killed; an edge takes up to 8 s to close its connections."""

MAX_STARTS = 5
"""Exits in a row after which a role that was never ready counts as unable to run."""

UNABLE = 2
"""Exit status of a role that can't run with its settings; starting it again would change nothing."""


@dataclass
class Role:
    """One process to be kept running."""

    name: str
    arguments: Sequence[str]
    """Of `python -m stenolog`."""
    descriptors: Sequence[int] = ()
    """Open files that it inherits."""


@dataclass
class _Child:
    role: Role
    process: asyncio.subprocess.Process | None = None
    exits: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Starts the roles in order, restarts each that exits, and ends them in order.

    Each child holds the reading end of a pipe as its standard input; when this process dies, however it dies, the pipe
    closes and the child ends itself.
    """

    def __init__(self, roles: Sequence[Role], environment: Mapping[str, str]) -> None:
        """`environment` is what all roles get."""
        self._children = [_Child(role) for role in roles]
        # -P and this: the same packages as here, whatever lies in the current directory.
        paths = [str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")]
        self._environment = {**environment, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        self._stopping = False
        self.was_ready = False
        """Set once everything ran; from then on a role is started again however often it exits."""
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with the name of a role that can't run at all."""

    @property
    def pids(self) -> dict[str, list[int]]:
        """The running processes, by role."""
        found: dict[str, list[int]] = {}
        for child in self._children:
            if child.process is not None and child.process.returncode is None:
                found.setdefault(child.role.name, []).append(child.process.pid)
        return found

    async def start(self) -> None:
        """Start every role; returns when their processes exist, not when they are ready."""
        for child in self._children:
            await self._spawn(child)
            child.task = asyncio.create_task(self._supervise(child))

    async def stop(self) -> None:
        """End the roles, those of one name together, in the order in which they were given."""
        self._stopping = True
        for name in dict.fromkeys(child.role.name for child in self._children):
            await asyncio.gather(*(self._end(child) for child in self._children if child.role.name == name))

    async def _spawn(self, child: _Child) -> None:
        child.process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "stenolog", *child.role.arguments, "--follow-parent",
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=self._environment, pass_fds=child.role.descriptors,
            # A group of its own: Ctrl-C comes to this process alone, which then ends the roles in order.
            start_new_session=True,
        )

    async def _supervise(self, child: _Child) -> None:
        while child.process is not None:
            started = time.monotonic()
            status = await child.process.wait()
            if self._stopping:
                return
            child.exits = 1 if time.monotonic() - started > STEADY_S else child.exits + 1
            if status == UNABLE or (child.exits == MAX_STARTS and not self.was_ready):
                if not self.failed.done():
                    self.failed.set_result(child.role.name)
                return
            pause_s = min(MIN_RESTART_S * 2.0 ** (min(child.exits, 10) - 1), MAX_RESTART_S)
            logger.warning(
                "%s exited (%s); restarting in %.1f s", child.role.name, _cause(status), pause_s,
                extra={"exited": child.role.name, "status": status, "pause_s": pause_s},
            )
            await asyncio.sleep(pause_s)
            try:
                await self._spawn(child)
            except OSError:  # no memory or processes left: counts as another exit
                logger.exception("%s not started; trying later", child.role.name)

    async def _end(self, child: _Child) -> None:
        process = child.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                logger.warning("%s not ended within %.0f s; killing it", child.role.name, STOP_TIMEOUT_S)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if child.task is not None:
            child.task.cancel()
            await asyncio.gather(child.task, return_exceptions=True)


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
