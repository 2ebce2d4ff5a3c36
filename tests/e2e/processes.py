"""Any number of each role as processes of their own over a test's Redis, and clients that see every message."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import redis

from eventlog.keys import Keys
from eventlog.work.claims import GROUP
from stenolog.local.embedded import free_port
from tests.e2e.deployment import RATE_HZ, speech
from tests.integration.edge.replicas import Client
from tests.support.commands import environment
from tests.support.waiting import eventually
from tests.support.watching import Watcher

START_S = 40
STOP_S = 30
BLOCK_BYTES = RATE_HZ // 5  # 100 ms
QUERY = f"sample_rate={RATE_HZ}"
PARTITIONS = 8


class Process:
    """One role."""

    def __init__(self, role: str, log: Path, options: Sequence[str], variables: dict[str, str]) -> None:
        """Start it; what it logs goes into the file `log`."""
        self.role = role
        self.log = log
        with log.open("wb") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "stenolog", role, *options], stderr=errors, env=environment(**variables),
                start_new_session=True,
            )
        self._watcher = Watcher(self.popen.pid)

    @property
    def pid(self) -> int:
        """Its number."""
        return self.popen.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        return self.popen.wait(STOP_S)

    def stop(self) -> None:
        """End it, however it is."""
        self._watcher.stop()
        self.popen.kill()
        self.popen.wait()

    def rss_mib(self) -> float:
        """The memory that it holds."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")


class Edge(Process):
    """An edge and its address."""

    def __init__(self, log: Path, variables: dict[str, str]) -> None:
        """Start it on a free port."""
        self.port = free_port()
        super().__init__("edge", log, ["--port", str(self.port), "--engine", "mock"], variables)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, query: str = QUERY) -> "Speaker":
        """A client of it, that connects when entered."""
        return Speaker(f"ws://127.0.0.1:{self.port}/v1/transcribe/stream?{query}")

    def answers(self, path: str = "/v1/health") -> bool:
        """Whether a request gets a 200."""
        assert self.popen.poll() in {None, -signal.SIGKILL}, self.log.read_text()
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:  # noqa: S310 - our own address
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


    def active(self) -> int:
        """How many connections it has."""
        with urllib.request.urlopen(f"{self.url}/v1/health", timeout=5) as answer:  # noqa: S310
            return int(json.load(answer)["active_sessions"])


class Roles:
    """The processes of a test; a context manager that leaves none."""

    def __init__(self, redis_url: str, directory: Path, **variables: str) -> None:
        """All of them get these variables, over the Redis at `redis_url`."""
        self._directory = directory
        self._variables = {"REDIS_URL": redis_url, "STENOLOG_PARTITIONS": str(PARTITIONS), **variables}
        self._all: list[Process] = []
        self.keys = Keys(PARTITIONS)
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.stop()
        self.redis.close()

    def edge(self, **variables: str) -> Edge:
        """One more edge, answering."""
        found = Edge(self._log("edge"), self._variables | variables)
        self._all.append(found)
        eventually(found.answers, START_S)
        return found

    def worker(self, **variables: str) -> Process:
        """One more worker, giving signs of life."""
        return self._started("worker", ["--engine", "mock"], variables)

    def project(self, **variables: str) -> Process:
        """One more process of all projections, giving signs of life."""
        return self._started("projector", [], variables)

    def holder(self, session_id: str) -> int | None:
        """The process that has the session's claim: a consumer's name ends with its number and a random part."""
        partition = self.keys.of(session_id).partition
        entry_id = self.redis.hget(partition.entries, f"{session_id} live")
        if entry_id is None:
            return None
        pending = self.redis.xpending_range(partition.sessions, GROUP, str(entry_id), str(entry_id), 1)
        return int(str(pending[0]["consumer"]).rsplit("-", 2)[1]) if pending else None

    def _started(self, role: str, options: Sequence[str], variables: dict[str, str]) -> Process:
        found = Process(role, self._log(role), options, self._variables | variables)
        self._all.append(found)
        eventually(lambda: self._beats(found), START_S)
        return found

    def _beats(self, process: Process) -> bool:
        assert process.popen.poll() is None, process.log.read_text()
        names = self.redis.hkeys("{stenolog}:heartbeats")
        return any(f"-{process.pid}-" in str(name) for name in names)

    def _log(self, role: str) -> Path:
        return self._directory / f"{role}-{len(self._all)}.log"


class Speaker(Client):
    """A client that streams recorded sentences and is told everything."""

    def __init__(self, url: str) -> None:
        """Will connect to `url`."""
        super().__init__(url)
        self.session_id = ""
        self.token = ""
        self.sent_bytes = 0
        self.sent_at: list[tuple[int, float]] = []
        """After how many samples it was when."""
        self.ack_s: list[float] = []

    async def begin(self) -> int:
        """Hear the first message; where the session's audio begins, in samples."""
        start = await self.next()
        assert start["type"] == "session_start", start
        self.session_id, self.token = start["session_id"], start["resume_token"] or self.token
        return int(start["offset"])

    async def say(self, pcm: bytes, *, speed: float | None = None, block_bytes: int = BLOCK_BYTES) -> None:
        """Send audio, as fast as it is taken or at a multiple of the speed of speech."""
        started = time.monotonic()
        for at in range(0, len(pcm), block_bytes):
            await self.socket.send(pcm[at : at + block_bytes])
            self.sent_bytes += len(pcm[at : at + block_bytes])
            self.sent_at.append((self.sent_bytes // 2, time.monotonic()))
            if speed is not None:
                await self.listen(started + (at + block_bytes) / (2 * RATE_HZ * speed))

    async def listen(self, until_s: float) -> None:
        """Take in messages until that moment of the monotonic clock."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_s - time.monotonic()):
                while True:
                    await self.next()

    async def next(self) -> dict[str, Any]:
        """The next message; of an ack, how long after the audio it came is kept."""
        message = await super().next()
        if message["type"] == "ack":
            sent_s = next((at_s for offset, at_s in self.sent_at if offset >= message["offset"]), None)
            if sent_s is not None:
                self.ack_s.append(time.monotonic() - sent_s)
        return message

    async def finish(self) -> dict[str, Any]:
        """Stop; the end."""
        await self.send("stop")
        end = await self.until("session_end")
        assert await self.closed() == 1000
        return end

    def resuming(self, heard: Sequence[dict[str, Any]] = ()) -> str:
        """The query string that goes on with this session, its finals so far being `heard`."""
        known = max((final["utterance"] + 1 for final in heard), default=0)
        return f"session_id={self.session_id}&resume_token={self.token}&next_utterance={known}"

    @property
    def finals(self) -> list[dict[str, Any]]:
        """The finals it was told."""
        return self.of("final")

    @property
    def durable(self) -> int:
        """Samples of audio that it was told are durable."""
        return max((ack["offset"] for ack in self.of("ack")), default=0)


def spoken(sentences: Sequence[int]) -> bytes:
    """The bundled sentences of these numbers, a second of pause after each."""
    return b"".join(speech(sentences))


def texts(finals: Sequence[dict[str, Any]]) -> list[str]:
    """What was said; fails if a number is missing or comes twice."""
    assert [final["utterance"] for final in finals] == list(range(len(finals)))
    return [final["text"] for final in finals]
