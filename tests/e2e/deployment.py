"""A real `stenolog up` for a test: every role a process, an embedded Valkey in a temporary directory."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
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
from tests.support.watching import Watcher

START_S = 60
STOP_S = 40
RATE_HZ = 16_000


class Up:
    """One `stenolog up`; a context manager that leaves no process."""

    def __init__(self, data: Path, *options: str, **variables: str) -> None:
        """Use directory `data`; `options` and `variables` are further ones of the command."""
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
        self._watcher = Watcher(self.process.pid, "TERM")  # it ends its roles and its server
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        eventually(lambda: self.told("ready") or self.process.poll() is not None, START_S)
        assert self.process.poll() is None, self.lines
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.stop()
        if self.process.poll() is None:
            self.stop()
        self._listener.join(STOP_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        if (pid := self.redis_pid) is not None:  # outlives its owner on purpose
            os.kill(pid, signal.SIGKILL)

    @property
    def ready(self) -> dict[str, Any]:
        """What it said when it was ready."""
        return self.told("ready")[0]

    @property
    def url(self) -> str:
        """The edge's address."""
        return str(self.ready["url"])

    @property
    def redis_pid(self) -> int | None:
        """The embedded server's process, if it runs."""
        try:
            pid = int((self.data / "valkey" / "server.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if is_alive(pid) else None

    def told(self, event: str) -> list[dict[str, Any]]:
        """All log lines of that event so far."""
        return [line for line in self.lines if line["event"].startswith(event)]

    def pids(self, role: str) -> list[int]:
        """The living processes of a role, restarted ones too."""
        return [pid for pid, name in children(self.process.pid).items() if name == role]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self.lines.append(json.loads(line) if line.startswith("{") else {"event": line, "level": "none"})


def children(parent: int) -> dict[int, str]:
    """Each child process and the role that it was started as."""
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
    """Whether a process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def speech(sentences: Sequence[int]) -> Iterator[bytes]:
    """The bundled sentences of these numbers as blocks of PCM, a second of pause after each."""
    found = recordings()
    return blocks([found[number] for number in sentences])


def undisturbed(sentences: Sequence[int]) -> list[str]:
    """The mock recogniser's finals for them, worked out without any server."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    boundaries = [boundary for block in speech(sentences) for boundary in segmenter.feed(block)] + segmenter.close()
    clips = [
        Clip(pcm=boundary.utterance.pcm, sample_rate_hz=RATE_HZ) for boundary in boundaries if boundary.utterance
    ]
    return [recognition.text for recognition in MockRecogniser().recognise(clips)]


class Conversation:
    """A client's session, everything it heard, and what to do when it hears it."""

    def __init__(self, url: str, sentences: Sequence[int], *, realtime: bool = True) -> None:
        """Will stream these sentences to `url`."""
        self.heard: list[Message] = []
        self.captioned: list[float] = []
        """When each partial or final came, on the monotonic clock."""
        self.on_final: dict[int, Any] = {}
        """Called, once, when the final of that number comes."""
        self.on_partial: Any = None
        """Called, once, at the first partial."""
        self.client = Client(url, sample_rate_hz=RATE_HZ, realtime=realtime, on_message=self._take)
        self._sentences = sentences

    async def hold(self) -> Message:
        """Stream to the end."""
        return await self.client.run(speech(self._sentences))

    def of_type(self, kind: str) -> list[Message]:
        """The messages of a type, in the order heard."""
        return [message for message in self.heard if message["type"] == kind]

    def _take(self, message: Message) -> None:
        self.heard.append(message)
        if message["type"] in {"partial", "final"}:
            self.captioned.append(time.monotonic())
        if message["type"] == "final" and (action := self.on_final.pop(message["utterance"], None)):
            action()
        if message["type"] == "partial" and self.on_partial:
            action, self.on_partial = self.on_partial, None
            action()
