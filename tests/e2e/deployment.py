"""A real `stenolog up` for tests: every role a process, with an embedded Valkey in a temporary directory."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from processor.recognisers import Clip
from processor.recognisers.mock import MockRecogniser
from processor.speech import Segmenter, SegmenterSettings
from stenolog.client.websocket import Client, Message
from stenolog.local.demo import blocks, recordings
from tests.support.commands import environment
from tests.support.waiting import eventually
from tests.support.watcher import Watcher

START_S = 60
STOP_S = 40
RATE_HZ = 16_000
SPEED = 2
"""Paced conversations speak this many times as fast as people do: faults strike in the middle, in half the time."""


class Up:
    """One `stenolog up`; a context manager that leaves no process."""

    def __init__(self, data: Path, *options: str, **variables: str) -> None:
        """Keep data in directory `data`; `options` and `variables` extend the command."""
        self.data = data
        self._command = [
            sys.executable, "-m", "stenolog", "up", "--data", str(data), "--port", "0", "--engine", "mock", *options,
        ]
        self._variables = variables
        self.lines: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, env=environment(**self._variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )
        self._watcher = Watcher(self.process.pid, "TERM")  # on which it ends its roles and its server
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        eventually(lambda: self.records("ready") or self.process.poll() is not None, START_S)
        assert self.process.poll() is None, self.lines
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.stop()
        if self.process.poll() is None:
            self.stop()
        self._log_reader.join(STOP_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        if (pid := self.redis_pid) is not None:  # it outlives its owner on purpose
            os.kill(pid, signal.SIGKILL)

    @property
    def ready(self) -> dict[str, Any]:
        """Its log record of being ready."""
        return self.records("ready")[0]

    @property
    def url(self) -> str:
        """The edge's address on this machine."""
        return str(self.ready["url"]).replace("0.0.0.0", "127.0.0.1")  # noqa: S104

    @property
    def redis_pid(self) -> int | None:
        """The embedded server's process id, or None."""
        try:
            pid = int((self.data / "valkey" / "server.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if is_alive(pid) else None

    def records(self, event: str) -> list[dict[str, Any]]:
        """All log records so far whose event begins with `event`."""
        return [line for line in self.lines if line["event"].startswith(event)]

    def pids(self, role: str) -> list[int]:
        """The live processes of a role, restarted ones too."""
        return [pid for pid, name in children(self.process.pid).items() if name == role]

    def is_complete(self, *, workers: int) -> bool:
        """Whether every role runs, and the edge reports that a session would be transcribed."""
        counts = {role: len(self.pids(role)) for role in ("edge", "worker", "projector")}
        return counts == {"edge": 1, "worker": workers, "projector": 1} and is_ready(self.url)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self.lines.append(json.loads(line) if line.startswith("{") else {"event": line, "level": "none"})


def children(parent: int) -> dict[int, str]:
    """The role of each child process, by process id."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent and fields[0] != "Z" and b"stenolog" in words:
            found[int(directory.name)] = words[words.index(b"stenolog") + 1].decode()
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_ready(url: str) -> bool:
    """Whether the edge at `url` reports that a session would be transcribed."""
    try:
        with urllib.request.urlopen(f"{url}/v1/ready") as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row, below those that the system assigns by itself."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        if all(_is_free(port + number) for number in range(count)):
            return int(port)
    raise AssertionError("no ports are free")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def speech(sentences: Sequence[int]) -> Iterator[bytes]:
    """The bundled sentences of these numbers as blocks of PCM, with a second of pause after each."""
    found = recordings()
    return blocks([found[number] for number in sentences])


def undisturbed(sentences: Sequence[int]) -> list[str]:
    """The mock recogniser's finals of these sentences, computed without a server."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    boundaries = [boundary for block in speech(sentences) for boundary in segmenter.feed(block)] + segmenter.close()
    clips = [
        Clip(pcm=boundary.utterance.pcm, sample_rate_hz=RATE_HZ) for boundary in boundaries if boundary.utterance
    ]
    return [recognition.text for recognition in MockRecogniser().recognise(clips)]


class Conversation:
    """A client's session, its messages, and actions on some of them."""

    def __init__(self, url: str, sentences: Sequence[int], *, realtime: bool = True) -> None:
        """Stream these sentences to `url`, paced if `realtime`."""
        self.messages: list[Message] = []
        self.text_times_s: list[float] = []
        """When each partial or final came, on the monotonic clock."""
        self.on_final: dict[int, Any] = {}
        """By utterance number: called once, when its final comes."""
        self.on_partial: Any = None
        """Called once, at the first partial."""
        self.client = Client(url, sample_rate_hz=RATE_HZ, realtime=realtime, on_message=self._receive)
        self.client._rate_hz = SPEED * RATE_HZ  # the pace alone follows from it
        self._sentences = sentences

    async def run(self) -> Message:
        """Stream to the session's end."""
        return await self.client.run(speech(self._sentences))

    def of_type(self, kind: str) -> list[Message]:
        """The received messages of a type, in order."""
        return [message for message in self.messages if message["type"] == kind]

    def _receive(self, message: Message) -> None:
        self.messages.append(message)
        if message["type"] in {"partial", "final"}:
            self.text_times_s.append(time.monotonic())
        if message["type"] == "final" and (action := self.on_final.pop(message["utterance"], None)):
            action()
        if message["type"] == "partial" and self.on_partial:
            action, self.on_partial = self.on_partial, None
            action()
