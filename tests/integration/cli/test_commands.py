"""The command line by itself: help, exit statuses, and errors that a user can act on."""

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from stenolog.cli import COMMANDS, cli
from tests.support.commands import environment, stenolog
from tests.support.waiting import eventually
from tests.unit.stenolog.wavs import wav

HELP_S = 0.6
"""Four times what it takes on an idle machine; importing the roles alone takes longer."""


@pytest.mark.parametrize(
    "words",
    [
        *([name] for commands in COMMANDS.values() for name in commands),
        *(["dead-letters", name] for name in ("list", "show", "redrive")),
        *(["quarantine", name] for name in ("list", "redrive", "fail")),
        *(["archive", name] for name in ("list", "verify", "erase")),
        *(["aws", name] for name in ("setup", "verify")),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(words: list[str]) -> None:
    """Each command's help says what it does and gives an example, with exit status 0."""
    done = CliRunner().invoke(cli, [*words, "--help"])
    assert done.exit_code == 0
    assert f"stenolog {' '.join(words)}" in done.output.partition("Examples:")[2]


def test_help_is_instant_and_lists_the_commands(tmp_path: Path) -> None:
    """`stenolog --help` imports no role, and names every command that users need."""
    took_s = []
    for _ in range(3):
        started = time.perf_counter()
        done = stenolog("--help", cwd=tmp_path)
        took_s.append(time.perf_counter() - started)
    assert min(took_s) < HELP_S
    for section, commands in COMMANDS.items():
        assert f"\n{section}:\n".encode() in done.stdout
        for command, text in commands.items():
            assert re.search(rf"\n  {command} +{re.escape(text)}\n".encode(), done.stdout)
    assert b"quarantine-trial" not in done.stdout
    assert b"\x1b[" not in done.stdout


@pytest.mark.parametrize("arguments", [("nonsense",), ("up", "--nonsense"), ("up", "--once"), ("transcribe",)])
def test_wrong_usage_is_exit_status_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """An unknown command or option, or a missing argument, is reported as wrong usage."""
    done = stenolog(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(b"Usage:")


@pytest.mark.parametrize("command", ["up", "edge"])
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])  # noqa: S104 - to be refused
def test_off_loopback_it_refuses_to_start(command: str, host: str, tmp_path: Path) -> None:
    """SAFE-4: without authentication nothing listens where others could reach it."""
    done = stenolog(command, "--host", host, "--port", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert b"without authentication" in done.stderr
    assert not list(tmp_path.iterdir())


def test_bad_settings_are_all_named_without_a_traceback(tmp_path: Path) -> None:
    """An unknown and a bad variable are both reported, with exit status 2."""
    done = stenolog("edge", cwd=tmp_path, variables={"STENOLOG_LEASE": "1", "STENOLOG_FLUSH_MS": "soon"})
    assert done.returncode == 2
    assert b"STENOLOG_LEASE is no setting" in done.stderr
    assert b"STENOLOG_FLUSH_MS" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "edge --port 0", "worker --engine mock", "projector", "sessions", "replay --all", "promote live --all",
        "rebuild lists", "nodes", "dead-letters list", "dead-letters redrive webhooks --all", "quarantine list",
        "quarantine redrive --all",
    ],
)
def test_a_command_without_any_redis_says_what_to_do(command: str, tmp_path: Path) -> None:
    """Without REDIS_URL and without a running `stenolog up`, a command names setting and option in a line."""
    done = stenolog(*command.split(), "--data", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert b"REDIS_URL" in done.stderr
    assert b"stenolog up" in done.stderr
    assert b"--data nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_comparison_without_any_redis_is_exit_status_2(tmp_path: Path) -> None:
    """`stenolog diff` without Redis ends with 2, since 1 would say that the runs differ."""
    done = stenolog("diff", "live", "other", "--data", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert b"this needs Redis: set REDIS_URL" in done.stderr


def test_replicas_that_the_embedded_server_has_not_are_refused(tmp_path: Path) -> None:
    """`stenolog up` starts no server of its own under durability wait:N, and says what to set instead."""
    done = stenolog("up", cwd=tmp_path, variables={"STENOLOG_DURABILITY": "wait:1"})
    assert done.returncode == 2
    assert b"STENOLOG_DURABILITY: wait:1 needs replicas" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_edge_promises_nothing_that_redis_does_not_give(redis_url: str, tmp_path: Path) -> None:
    """SAFE-1: an edge with durability safe refuses a Redis without an append-only file, and names the way out."""
    variables = {"STENOLOG_DURABILITY": "safe", "REDIS_URL": redis_url}
    done = stenolog("edge", "--port", "0", cwd=tmp_path, variables=variables)
    assert done.returncode == 2
    assert b"set appendonly yes" in done.stderr


def test_another_number_of_partitions_is_refused(redis_url: str, tmp_path: Path) -> None:
    """A process with another P than the deployment's refuses to start and names the stored one."""
    assert stenolog("sessions", cwd=tmp_path, variables={"REDIS_URL": redis_url}).returncode == 0
    done = stenolog("sessions", cwd=tmp_path, variables={"REDIS_URL": redis_url, "STENOLOG_PARTITIONS": "8"})
    assert done.returncode == 2
    assert b"STENOLOG_PARTITIONS=64" in done.stderr


@pytest.mark.parametrize("command", ["up", "edge"])
def test_a_port_in_use_is_reported(command: str, tmp_path: Path) -> None:
    """A port of another process is an error that names it, before anything was started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = stenolog(command, "--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert f"port {port}".encode() in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_engine_is_refused_by_the_worker(redis_url: str, tmp_path: Path) -> None:
    """An unknown recogniser is a matter of settings: exit status 2, with the known names."""
    done = stenolog("worker", "--engine", "magic", cwd=tmp_path, variables={"REDIS_URL": redis_url})
    assert done.returncode == 2
    assert b"no recogniser named magic" in done.stderr
    assert b"whisper" in done.stderr


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("missing.wav", None, b"missing.wav: No such file"),
        ("empty.wav", b"", b"the file is empty"),
        ("short.wav", b"RIFF\0\0\0\0WAVE", b"no recording that can be read"),
        ("page.mp3", b"<html>no recording</html>", b"no recording that can be read"),
        ("fine.wav", wav(16_000), b"no edge answers at http://127.0.0.1:9"),
    ],
)
def test_transcribe_reports_why_it_cannot_work(
    name: str, data: bytes | None, message: bytes, tmp_path: Path
) -> None:
    """No file, a bad file, no edge: a line of its own for each, nothing on standard output, exit status 1."""
    if data is not None:
        (tmp_path / name).write_bytes(data)
    done = stenolog("transcribe", name, "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr


def test_the_help_does_not_import_the_roles() -> None:
    """Nothing heavy is loaded before a command runs."""
    code = "import stenolog.cli, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"redis", "starlette", "uvicorn", "numpy", "websockets", "rich", "msgspec", "asyncio"})


def test_ctrl_c_ends_a_transcription_that_waits_for_its_pipe(tmp_path: Path) -> None:
    """Ctrl-C while standard input is silent ends `stenolog transcribe -` with exit status 130."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stenolog", "transcribe", "-"], cwd=tmp_path, env=environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"RIFF")
    process.stdin.flush()
    eventually(lambda: b"pipe" in waits_in(process.pid), 20)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130, stderr
    assert b"Traceback" not in stderr


def waits_in(pid: int) -> bytes:
    """The kernel function in which a process waits."""
    return Path(f"/proc/{pid}/wchan").read_bytes()
