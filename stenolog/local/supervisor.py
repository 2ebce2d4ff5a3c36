"""Keeps the roles of `stenolog up` running: each a process of its own, restarted when it dies, ended in order."""

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

RESTART_FIRST_S, RESTART_MOST_S = 0.2, 10.0
"""Pauses before a restart double from the first to the second: most deaths are accidents; a loop must stay cheap."""

STEADY_S = 30.0
"""A role that ran for so long has earned the shortest pause again."""

STOP_S = 15.0
"""After SIGTERM a role has this long before it is killed; an edge takes up to 8 s to see its clients off."""

STARTS = 5
"""Deaths in a row after which a role that was never ready counts as unable to run."""

UNABLE = 2
"""Exit status of a role that can't run as it is set; starting it again would change nothing."""


@dataclass
class Role:
    """One process to be kept running."""

    name: str
    arguments: Sequence[str]
    """Of `python -m stenolog`."""
    descriptors: Sequence[int] = ()
    """Open files that it inherits."""


@dataclass
class _Kept:
    role: Role
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Starts the roles in order, restarts what dies, and ends them in order.

    Each child holds the reading end of a pipe as its standard input; when this process dies, however it dies, the pipe
    closes and the child ends itself.
    """

    def __init__(self, roles: Sequence[Role], environment: Mapping[str, str]) -> None:
        """`environment` is what all roles get."""
        self._kept = [_Kept(role) for role in roles]
        # -P and this: the same packages as here, whatever lies in the current directory.
        paths = [str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")]
        self._environment = {**environment, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        self._stopping = False
        self.was_ready = False
        """Set once everything ran; from then on a role is started again however often it dies."""
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with the name of a role that can't run at all."""

    @property
    def pids(self) -> dict[str, list[int]]:
        """The running processes, by role."""
        found: dict[str, list[int]] = {}
        for kept in self._kept:
            if kept.process is not None and kept.process.returncode is None:
                found.setdefault(kept.role.name, []).append(kept.process.pid)
        return found

    async def start(self) -> None:
        """Start every role; returns when their processes exist, not when they are ready."""
        for kept in self._kept:
            await self._spawn(kept)
            kept.task = asyncio.create_task(self._keep(kept))

    async def stop(self) -> None:
        """End the roles, those of one name together, in the order in which they were given."""
        self._stopping = True
        for name in dict.fromkeys(kept.role.name for kept in self._kept):
            await asyncio.gather(*(self._end(kept) for kept in self._kept if kept.role.name == name))

    async def _spawn(self, kept: _Kept) -> None:
        kept.process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "stenolog", *kept.role.arguments, "--follow-parent",
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=self._environment, pass_fds=kept.role.descriptors,
            # A group of its own: Ctrl-C comes to this process alone, which then ends the roles in order.
            start_new_session=True,
        )

    async def _keep(self, kept: _Kept) -> None:
        while kept.process is not None:
            started = time.monotonic()
            status = await kept.process.wait()
            if self._stopping:
                return
            kept.deaths = 1 if time.monotonic() - started > STEADY_S else kept.deaths + 1
            if status == UNABLE or (kept.deaths == STARTS and not self.was_ready):
                if not self.failed.done():
                    self.failed.set_result(kept.role.name)
                return
            pause_s = min(RESTART_FIRST_S * 2.0 ** (min(kept.deaths, 10) - 1), RESTART_MOST_S)
            logger.warning(
                "%s died (%s) and is started again in %.1f s", kept.role.name, _how(status), pause_s,
                extra={"died": kept.role.name, "status": status, "pause_s": pause_s},
            )
            await asyncio.sleep(pause_s)
            try:
                await self._spawn(kept)
            except OSError:  # no memory or processes left: as good as another death
                logger.exception("%s could not be started", kept.role.name)

    async def _end(self, kept: _Kept) -> None:
        process = kept.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                logger.warning("%s did not end within %.0f s and is killed", kept.role.name, STOP_S)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if kept.task is not None:
            kept.task.cancel()
            await asyncio.gather(kept.task, return_exceptions=True)


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
