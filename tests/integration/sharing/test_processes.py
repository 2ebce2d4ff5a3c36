"""Workers as processes of their own that share a recording, and are killed in the middle of it."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.integration.sharing.recordings import is_as_undisturbed, recording
from tests.support.deployment import PARTITIONS, Deployment, Session, finals_in
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async

WAIT_S = 30.0

# Recognises one clip for each line that it is sent, and all at the word "all"; says a line at the beginning of each.
WORKER = """
import asyncio, sys, threading
sys.path.insert(0, sys.argv[1])
from eventlog.redis.server import connect
from processor.recognisers.mock import MockRecogniser
from processor.settings import WorkerSettings
from processor.worker import Worker

class Counted(MockRecogniser):
    max_batch = 1
    may = threading.Semaphore(0)
    is_open = threading.Event()

    def recognise(self, clips):
        print("clip", flush=True)
        if not self.is_open.is_set():
            self.may.acquire()
        return super().recognise(clips)

def listen():
    for line in sys.stdin:
        if line.strip() == "all":
            Counted.is_open.set()
        Counted.may.release()

async def never(claim):
    raise AssertionError("no run is suspected")

async def main():
    server = await connect(sys.argv[2], partitions=int(sys.argv[3]))
    settings = WorkerSettings(
        tick_ms=5, session_ttl_s=1000, lease_ms=500, shared_recognition_lease_ms=1000, capacity=int(sys.argv[4]))
    worker = Worker(server, settings, Counted(), trial=never)
    await worker.start()
    print("ready", flush=True)
    await worker.wait()

threading.Thread(target=listen, daemon=True).start()
asyncio.run(main())
"""


class Process:
    """One worker."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Bind to a running one."""
        self.clips = 0
        self._process = process
        self._listening = asyncio.create_task(self._listen())
        self._ready = asyncio.Event()

    async def ready(self) -> None:
        """Return when it works."""
        await asyncio.wait_for(self._ready.wait(), WAIT_S)

    async def allow(self, *words: str) -> None:
        """Let it recognise one clip for each word, and all for the word "all"."""
        assert self._process.stdin is not None
        self._process.stdin.writelines(f"{word}\n".encode() for word in words)
        await self._process.stdin.drain()

    async def kill(self) -> None:
        """End it without a chance to do anything."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.clips += line == b"clip\n"
            if line == b"ready\n":
                self._ready.set()


@asynccontextmanager
async def working(deployment: Deployment, capacity: int) -> AsyncIterator[Process]:
    """A worker that holds so many runs at most; killed at the end."""
    arguments = [str(ROOT), deployment.url, str(PARTITIONS), str(capacity)]
    process = Process(
        await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, *arguments, stdin=PIPE, stdout=PIPE)
    )
    try:
        await process.ready()
        yield process
    finally:
        await process.kill()


async def recognised(session: Session) -> int:
    """How many results are there for its holder."""
    return int(await session._log.server.execute("HLEN", session.run.recognised))


@pytest.mark.parametrize("victim", ["taker", "holder"])
async def test_a_kill_in_the_middle_changes_no_final(single: Deployment, victim: str) -> None:
    """SAFE-1: whichever of two workers that share a recording is killed, its finals are those of an undisturbed run."""
    session = await single.open(recording())
    async with working(single, 1) as holder:
        await session.say()
        await eventually_async(lambda: holder.clips, WAIT_S)
        await _resume(single, session, holder, victim)


async def _resume(single: Deployment, session: Session, holder: Process, victim: str) -> None:
    """Let another worker help, kill one of the two with work in its hands, and let the other end it."""
    async with working(single, 1) as taker:
        await taker.allow(*"12345")

        async def has_results() -> bool:
            return await recognised(session) >= 5

        await eventually_async(has_results, WAIT_S)
        assert await session.finals() == 0
        await holder.allow("1")
        await eventually_async(session.finals, WAIT_S)
        killed, left = (taker, holder) if victim == "taker" else (holder, taker)
        await killed.kill()
        await left.allow("all")
        await eventually_async(session.has_ended, WAIT_S)
        await is_as_undisturbed(session)
        assert 1 < await session.finals() == len(finals_in(session.expected()))
