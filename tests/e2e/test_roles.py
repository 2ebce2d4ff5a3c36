"""The Procfile's roles together, and the end of a client's command in mid-stream."""

import signal
import subprocess
import sys
from pathlib import Path

from stenolog.local.demo import recordings
from tests.e2e.deployment import RATE_HZ, Conversation, Up, undisturbed
from tests.e2e.procfile import Procfile
from tests.support.commands import environment

STOP_S = 30


async def test_the_procfiles_roles_transcribe_together_and_stop_in_order(redis_url: str, tmp_path: Path) -> None:
    """SESS-8: three processes and a Redis make a deployment, and each ends at SIGTERM with exit status 0."""
    with Procfile(redis_url, tmp_path) as procfile:
        end = await Conversation(procfile.url, (1, 4), realtime=False).run()
        assert end["transcript"] == " ".join(undisturbed((1, 4)))
        for process in procfile.processes.values():
            process.send(signal.SIGTERM)
        assert [process.ended() for process in procfile.processes.values()] == [0, 0, 0]
        logs = "".join(process.log.read_text() for process in procfile.processes.values())
    assert "Traceback" not in logs
    assert not any(text in logs for text in undisturbed((1, 4)))


def test_ctrl_c_ends_a_transcription_without_noise(up: Up) -> None:
    """Ctrl-C in the middle of a file is exit status 130, without a traceback and with nothing on standard output."""
    file = next(iter(recordings()))
    command = [sys.executable, "-m", "stenolog", "transcribe", "-", "--url", up.url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        # Of unknown length and with its pipe left open: a recording whose end doesn't come.
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
