"""Roles as processes over a test's Redis, and clients that record every message."""

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
from typing import Any, Self, TypeVar

import redis

from eventlog.keys import Keys, heartbeats
from eventlog.work.claims import GROUP
from stenolog.local.embedded import free_port
from tests.e2e.deployment import RATE_HZ, speech
from tests.integration.edge.replicas import Client
from tests.support.commands import environment
from tests.support.waiting import eventually
from tests.support.watcher import Watcher

START_S = 40
STOP_S = 30
BLOCK_BYTES = RATE_HZ // 5  # 100 ms
QUERY = f"sample_rate={RATE_HZ}"
PARTITIONS = 8


class Process:
    """One role."""

    def __init__(self, role: str, log: Path, options: Sequence[str], variables: dict[str, str]) -> None:
        """Start it; its log goes into the file `log`."""
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
        """Its process id."""
        return self.popen.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        return self.popen.wait(STOP_S)

    def stop(self) -> None:
        """Kill it."""
        self._watcher.stop()
        self.popen.kill()
        self.popen.wait()

    def rss_mib(self) -> float:
        """Its resident memory."""
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
        """A client of this edge, which connects when entered."""
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
        """Number of its connections."""
        with urllib.request.urlopen(f"{self.url}/v1/health", timeout=5) as answer:  # noqa: S310
            return int(json.load(answer)["active_sessions"])


OneProcess = TypeVar("OneProcess", bound=Process)


class Roles:
    """The role processes of a test; a context manager that leaves no process."""

    def __init__(self, redis_url: str, directory: Path, **variables: str) -> None:
        """Give every process these variables and the Redis at `redis_url`."""
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
        """One more edge, which answers."""
        found = self._launched_edge(variables)
        eventually(found.answers, START_S)
        return found

    def one_of_each(self) -> tuple[Edge, Process, Process]:
        """An edge, a worker and a projector, which start at the same time; returns when all are ready."""
        found = (
            self._launched_edge({}), self._launched("worker", ["--engine", "mock"], {}),
            self._launched("projector", [], {}),
        )
        eventually(found[0].answers, START_S)
        for process in found[1:]:
            self._await_heartbeat(process)
        return found

    def edges(self, count: int) -> list[Edge]:
        """Several edges, which start at the same time."""
        found = [self._launched_edge({}) for _ in range(count)]
        for edge in found:
            eventually(edge.answers, START_S)
        return found

    def worker(self, **variables: str) -> Process:
        """One more worker, which has a heartbeat."""
        return self._started("worker", ["--engine", "mock"], variables)

    def projector(self, **variables: str) -> Process:
        """One more projector, which has a heartbeat."""
        return self._started("projector", [], variables)

    def holder(self, session_id: str) -> int | None:
        """The process id that holds the session's claim: a consumer's name ends with it and a random part."""
        partition = self.keys.of(session_id).partition
        entry_id = self.redis.hget(partition.entries, f"{session_id} live")
        if entry_id is None:
            return None
        pending = self.redis.xpending_range(partition.sessions, GROUP, str(entry_id), str(entry_id), 1)
        return int(str(pending[0]["consumer"]).rsplit("-", 2)[1]) if pending else None

    def _started(self, role: str, options: Sequence[str], variables: dict[str, str]) -> Process:
        found = self._launched(role, options, variables)
        self._await_heartbeat(found)
        return found

    def _launched(self, role: str, options: Sequence[str], variables: dict[str, str]) -> Process:
        return self._register(Process(role, self._log_file(role), options, self._variables | variables))

    def _launched_edge(self, variables: dict[str, str]) -> Edge:
        return self._register(Edge(self._log_file("edge"), self._variables | variables))

    def _register(self, process: OneProcess) -> OneProcess:
        self._all.append(process)
        return process

    def _await_heartbeat(self, process: Process) -> None:
        def has_heartbeat() -> bool:
            assert process.popen.poll() is None, process.log.read_text()
            names = self.redis.hkeys(heartbeats())
            return any(f"-{process.pid}-" in str(name) for name in names)

        eventually(has_heartbeat, START_S)

    def _log_file(self, role: str) -> Path:
        return self._directory / f"{role}-{len(self._all)}.log"


class Speaker(Client):
    """A client that streams recorded sentences and records every message."""

    def __init__(self, url: str) -> None:
        """Prepare a connection to `url`."""
        super().__init__(url)
        self.session_id = ""
        self.token = ""
        self.sent_bytes = 0
        self.sent_at: list[tuple[int, float]] = []
        """Samples sent so far, and when."""
        self.ack_s: list[float] = []

    async def begin(self) -> int:
        """Receive the first message; returns where the session's audio continues, in samples."""
        start = await self.next()
        assert start["type"] == "session_start", start
        self.session_id, self.token = start["session_id"], start["resume_token"] or self.token
        return int(start["offset"])

    async def say(self, pcm: bytes, *, speed: float | None = None, block_bytes: int = BLOCK_BYTES) -> None:
        """Send audio as fast as the edge takes it, or at a multiple of the speed of speech."""
        started = time.monotonic()
        for at in range(0, len(pcm), block_bytes):
            await self.socket.send(pcm[at : at + block_bytes])
            self.sent_bytes += len(pcm[at : at + block_bytes])
            self.sent_at.append((self.sent_bytes // 2, time.monotonic()))
            if speed is not None:
                await self.listen(started + (at + block_bytes) / (2 * RATE_HZ * speed))

    async def listen(self, until_s: float) -> None:
        """Receive messages until that time of the monotonic clock."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_s - time.monotonic()):
                while True:
                    await self.next()

    async def next(self) -> dict[str, Any]:
        """The next message; of an ack it records the delay since the audio was sent."""
        message = await super().next()
        if message["type"] == "ack":
            sent_s = next((at_s for offset, at_s in self.sent_at if offset >= message["offset"]), None)
            if sent_s is not None:
                self.ack_s.append(time.monotonic() - sent_s)
        return message

    async def finish(self) -> dict[str, Any]:
        """Stop; returns the session's end."""
        await self.send("stop")
        end = await self.until("session_end")
        assert await self.closed() == 1000
        return end

    def resuming(self, finals: Sequence[dict[str, Any]] = ()) -> str:
        """The query string that resumes this session after the finals received so far."""
        known = max((final["utterance"] + 1 for final in finals), default=0)
        return f"session_id={self.session_id}&resume_token={self.token}&next_utterance={known}"

    @property
    def finals(self) -> list[dict[str, Any]]:
        """The finals that it received."""
        return self.of("final")

    @property
    def durable(self) -> int:
        """Samples acked as durable."""
        return max((ack["offset"] for ack in self.of("ack")), default=0)


def spoken(sentences: Sequence[int]) -> bytes:
    """The bundled sentences of these numbers, with a second of pause after each."""
    return b"".join(speech(sentences))


def texts(finals: Sequence[dict[str, Any]]) -> list[str]:
    """The texts of finals; fails if a number is missing or comes twice."""
    assert [final["utterance"] for final in finals] == list(range(len(finals)))
    return [final["text"] for final in finals]
