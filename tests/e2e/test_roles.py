"""The roles as the Procfile has them: separate processes that share nothing but a Redis."""

import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from stenolog.local.demo import recordings
from stenolog.local.embedded import free_port
from tests.e2e.deployment import RATE_HZ, Conversation, undisturbed
from tests.support.commands import environment
from tests.support.tree import ROOT
from tests.support.waiting import eventually
from tests.support.watching import Watcher

READY_S = 60
STOP_S = 30


@contextmanager
def procfile(port: int, **variables: str) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Every line of the Procfile as a process, by role."""
    processes: dict[str, subprocess.Popen[str]] = {}
    watchers = []
    try:
        for line in (ROOT / "Procfile").read_text().splitlines():
            role, _, command = line.partition(":")
            words = shlex.split(command)
            assert words[0] == "stenolog"
            processes[role] = subprocess.Popen(
                [sys.executable, "-m", "stenolog", *words[1:]], stderr=subprocess.PIPE, text=True,
                env=environment(STENOLOG_PORT=str(port), STENOLOG_ENGINE="mock", **variables),
            )
            watchers.append(Watcher(processes[role].pid))
        yield processes
    finally:
        for watcher in watchers:
            watcher.stop()
        for process in processes.values():
            process.kill()
            process.communicate()


def is_ready(url: str) -> bool:
    """Whether the edge says that a session would be transcribed."""
    try:
        with urllib.request.urlopen(f"{url}/v1/ready") as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


async def test_the_procfiles_roles_transcribe_together_and_leave_in_order(redis_url: str) -> None:
    """SESS-8: three processes and a Redis make a deployment, and each ends at SIGTERM with exit status 0."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with procfile(port, REDIS_URL=redis_url) as processes:
        eventually(lambda: is_ready(url), READY_S)
        conversation = Conversation(url, (1, 4), realtime=False)
        end = await conversation.hold()
        assert end["transcript"] == " ".join(undisturbed((1, 4)))
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        logs = "".join(process.communicate(timeout=STOP_S)[1] for process in processes.values())
        assert [process.returncode for process in processes.values()] == [0, 0, 0]
    assert "Traceback" not in logs
    assert not any(text in logs for text in undisturbed((1, 4)))


def test_ctrl_c_ends_a_transcription_without_noise(redis_url: str) -> None:
    """Ctrl-C in the middle of a file is exit status 130, without a traceback and with nothing on standard output."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    file = next(iter(recordings()))
    with procfile(port, REDIS_URL=redis_url):
        eventually(lambda: is_ready(url), READY_S)
        command = [sys.executable, "-m", "stenolog", "transcribe", "-", "--url", url]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            # Its length unknown and its pipe left open: a recording whose end doesn't come.
            data = bytearray(file.read_bytes())
            place = data.index(b"data") + 4
            data[place : place + 4] = b"\xff" * 4
            process.stdin.write(bytes(data) + bytes(RATE_HZ * 4))
            process.stdin.flush()
            caption = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)  # with the pipe still open
            out, err = process.communicate()
    assert b"0:00" in caption
    assert process.returncode == 130
    assert (out, err.strip()) == (b"", b"")
