"""A decoder child as its parent sees it: bytes in, samples out, marks, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import processor
from processor.decoding.messages import TROUBLE_STATUS, Mark, Trouble
from processor.decoding.restart_points import Restart, decode_said

_KEPT_VARIABLES = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""Of the environment; addresses and secrets are nothing that a decoder of strangers' files should know."""

_ROOT = Path(processor.__file__).parents[1]

_LAST_WORDS = 10
"""Lines of a crash that are kept for the log: the end of a traceback."""

_DRAINED_BYTES = 65_536

_CRASHES = {
    signal.SIGXCPU: "takes far too long to decode",
    signal.SIGSEGV: "made its decoder crash",
    signal.SIGABRT: "made its decoder crash",
    signal.SIGBUS: "made its decoder crash",
    signal.SIGFPE: "made its decoder crash",
    signal.SIGILL: "made its decoder crash",
    signal.SIGXFSZ: "is too large to be kept on disk",
}


class Outcome(NamedTuple):
    """How a child ended.

    Attributes:
        trouble: For a person; empty if everything there was is decoded.
        is_final: Whether another try would end the same way.
        last_words: For the log.
    """

    trouble: str = ""
    is_final: bool = True
    last_words: str = ""


class DecoderProcess:
    """One running decoder; made by `running`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Bind to a process whose three standard streams are pipes."""
        self._process = process
        self._mark = Mark(read_bytes=-1, written_bytes=0)
        self._news = asyncio.Event()
        self._troubles: list[str] = []
        self._words: list[str] = []
        self.restarts: deque[Restart] = deque()
        """Points that it told, the oldest first; for the reader to take."""
        self._listening = asyncio.create_task(self._listen())

    @property
    def output(self) -> asyncio.StreamReader:
        """Its standard output."""
        assert self._process.stdout is not None  # noqa: S101 -- asked for as a pipe
        return self._process.stdout

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def feed(self, data: bytes) -> bool:
        """Hand in bytes, as fast as it takes them; whether it took them: it may have ended, and say so itself."""
        assert self._process.stdin is not None  # noqa: S101 -- asked for as a pipe
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    async def finish(self) -> None:
        """Tell it that there is no more."""
        assert self._process.stdin is not None  # noqa: S101 -- asked for as a pipe
        self._process.stdin.close()
        # Shielded: asyncio 3.11 sets the outcome of this wait without asking whether it was cancelled meanwhile.
        closing = asyncio.ensure_future(self._process.stdin.wait_closed())
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody need ask for it then
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await asyncio.shield(closing)

    async def drained(self, read_bytes: int) -> int | None:
        """Wait until it has made all it can of `read_bytes`; how much it has written then. None: it has ended."""
        while self._mark.read_bytes < read_bytes:
            if self._listening.done():
                return None
            self._news.clear()
            await self._news.wait()
        return self._mark.written_bytes

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def outcome(self) -> Outcome:
        """How it ended; to be asked when its output has ended."""
        await self._listening
        status = await self._process.wait()
        if status == 0:
            return Outcome(last_words="; ".join(self._troubles))
        if status == TROUBLE_STATUS and self._troubles:
            return Outcome(self._troubles[-1])
        if crash := _CRASHES.get(signal.Signals(-status)) if status < 0 else None:
            return Outcome(crash, last_words=f"signal {-status}")
        return Outcome("could not be decoded", is_final=False, last_words=f"status {status}: {self._words}")

    async def _listen(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 -- asked for as a pipe
        try:
            while line := await _line(self._process.stderr):
                self._hear(line)
        finally:
            self._news.set()

    def _hear(self, line: bytes) -> None:
        match decode_said(line):
            case Mark() as mark:
                self._mark = mark
                self._news.set()
            case Restart() as restart:
                self.restarts.append(restart)
            case Trouble(message=message):
                self._troubles.append(message)
            case None:
                self._words = [*self._words[1 - _LAST_WORDS :], line.decode(errors="replace").strip()]

    async def close(self) -> None:
        """End it if it lives, and return when nothing of it is left."""
        self.kill()
        # Its end isn't told before that of its output, and asyncio reads none while its buffer is full.
        while await self.output.read(_DRAINED_BYTES):
            pass
        await self._process.wait()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line, or what there is of one that is longer than any of ours; empty at the end."""
    try:
        return await stream.readline()
    except ValueError:  # beyond the reader's limit, and thrown away by it
        return b"(a line too long)"


@contextlib.asynccontextmanager
async def running(
    *, channels: int, max_spool_bytes: int, restart_bytes: int = 0, restart: str = ""
) -> AsyncIterator[DecoderProcess]:
    """A child that makes `channels` channels (0: two if they differ), which ends with the block.

    Every `restart_bytes` or so it tells a point from which a new one could go on, as this one does from `restart`.

    Raises:
        OSError: if no process can be started now.
    """
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-B", "-s", "-m", "processor.decoding", "--marks", "--parent", str(os.getpid()),
        "--channels", str(channels), "--max-spool-bytes", str(max_spool_bytes),
        "--restart-bytes", str(restart_bytes), "--restart", restart,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=_ROOT, env=environment | {"PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    child = DecoderProcess(process)
    try:
        yield child
    finally:
        await child.close()
