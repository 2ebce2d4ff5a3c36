"""A decoder child as its parent sees it: bytes in, samples and messages out, and its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import processor
from processor.decoding.child_protocol import FAILURE_STATUS, Failure, InputConsumed, RestartPoint, decode_message
from processor.decoding.layouts import ChannelOptions

_KEPT_VARIABLES = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""Of the environment; a decoder of untrusted files gets no addresses and no secrets."""

_ROOT = Path(processor.__file__).parents[1]

_KEPT_LINES = 10
"""Lines of a crash kept for the log: the end of a traceback."""

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
        failure: For a person; empty if the whole recording is decoded.
        is_final: Whether another try would end the same way.
        diagnostics: For the log.
    """

    failure: str = ""
    is_final: bool = True
    diagnostics: str = ""


class DecoderProcess:
    """One running decoder; made by `run_decoder`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Bind to a process whose three standard streams are pipes."""
        self._process = process
        self._consumed = InputConsumed(read_bytes=-1, written_bytes=0)
        self._changed = asyncio.Event()
        self._failures: list[str] = []
        self._other_lines: list[str] = []
        self.restart_points: deque[RestartPoint] = deque()
        """Reported by the child, the oldest first; their reader removes them."""
        self._reading = asyncio.create_task(self._read_messages())

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
        """Write bytes, as fast as it takes them; returns False if it has ended, whose reason is its outcome."""
        assert self._process.stdin is not None  # noqa: S101 -- asked for as a pipe
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    async def finish(self) -> None:
        """End its input."""
        assert self._process.stdin is not None  # noqa: S101 -- asked for as a pipe
        self._process.stdin.close()
        # Shielded: asyncio 3.11 sets the outcome of this wait even if it was cancelled meanwhile.
        closing = asyncio.ensure_future(self._process.stdin.wait_closed())
        # Its error is retrieved, so that asyncio does not log it.
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await asyncio.shield(closing)

    async def wait_consumed(self, read_bytes: int) -> InputConsumed | None:
        """Wait until it has decoded `read_bytes`; returns its report of that, or None if it has ended."""
        return await self._wait_report(lambda: self._consumed.read_bytes >= read_bytes)

    async def release(self) -> InputConsumed | None:
        """Have it judge the layout now, and write the samples that it holds back; returns as `wait_consumed`.

        To be called while it waits for input.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        return await self._wait_report(lambda: not self._consumed.held_samples)

    async def _wait_report(self, is_awaited: Callable[[], bool]) -> InputConsumed | None:
        while not is_awaited():
            if self._reading.done():
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._consumed

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def outcome(self) -> Outcome:
        """How it ended; to be called when its output has ended."""
        await self._reading
        status = await self._process.wait()
        if status == 0:
            return Outcome(diagnostics="; ".join(self._failures))
        if status == FAILURE_STATUS and self._failures:
            return Outcome(self._failures[-1])
        if crash := _CRASHES.get(signal.Signals(-status)) if status < 0 else None:
            return Outcome(crash, diagnostics=f"signal {-status}")
        return Outcome("could not be decoded", is_final=False, diagnostics=f"status {status}: {self._other_lines}")

    async def _read_messages(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 -- asked for as a pipe
        try:
            while line := await _line(self._process.stderr):
                self._handle_line(line)
        finally:
            self._changed.set()

    def _handle_line(self, line: bytes) -> None:
        match decode_message(line):
            case InputConsumed() as consumed:
                self._consumed = consumed
                self._changed.set()
            case RestartPoint() as point:
                self.restart_points.append(point)
            case Failure(message=message):
                self._failures.append(message)
            case None:
                self._other_lines = [*self._other_lines[1 - _KEPT_LINES :], line.decode(errors="replace").strip()]

    async def close(self) -> None:
        """End it if it lives, and return when its process is gone and its pipes are closed."""
        self.kill()
        # asyncio reports its end only after that of its output, and reads no output while its buffer is full.
        while await self.output.read(_DRAINED_BYTES):
            pass
        await self._process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line, or a note if it is longer than any message; empty at the end."""
    try:
        return await stream.readline()
    except ValueError:  # beyond the reader's limit, and thrown away by it
        return b"(a line too long)"


@contextlib.asynccontextmanager
async def run_decoder(
    options: ChannelOptions, *, max_spool_bytes: int, restart_interval_bytes: int = 0, restart_point: str = ""
) -> AsyncIterator[DecoderProcess]:
    """A child that decodes what `options` say, and ends with the block.

    About every `restart_interval_bytes` it reports a restart point; it begins at `restart_point`, if not empty.

    Raises:
        OSError: if no process can be started now.
    """
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-B", "-s", "-m", "processor.decoding", "--messages", "--parent", str(os.getpid()),
        "--layout", options.layout, "--track", str(options.track), *(["--recorded"] if options.is_recorded else []),
        "--max-held-bytes", str(options.max_held_bytes), "--max-spool-bytes", str(max_spool_bytes),
        "--restart-interval-bytes", str(restart_interval_bytes), "--restart-point", restart_point,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=_ROOT, env=environment | {"PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    child = DecoderProcess(process)
    try:
        yield child
    finally:
        await child.close()
