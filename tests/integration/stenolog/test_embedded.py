"""The embedded server against real processes: start, stop, adoption, the locks."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from stenolog.local import embedded
from stenolog.local.embedded import EmbeddedServer, EmbeddedServerError, running_url
from tests.support.tree import ROOT
from tests.support.waiting import eventually

OWNER = """
import sys
from stenolog.local.embedded import EmbeddedServer
print(EmbeddedServer(sys.argv[1]).start(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory with a difficult name, where no server is left behind."""
    directory = tmp_path / 'my "data" \\ dir'
    yield directory
    server = EmbeddedServer(directory)
    server.directory.mkdir(parents=True, exist_ok=True)
    server._own()
    server._end()
    server.stop()


def set_value(url: str, value: str) -> None:
    """Writes one value and has it synced, as everysec would within the second."""
    with redis.Redis.from_url(url) as client:
        client.set("kept", value)
        client.execute_command("WAITAOF", 1, 0, 5000)


def get_value(url: str) -> object:
    """Reads that value."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.get("kept")


def kill_owner(data_dir: Path) -> tuple[str, int]:
    """Lets another process start a server and dies with kill -9; returns the server's address and process."""
    command = [sys.executable, "-c", OWNER, str(data_dir)]
    owner = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        set_value(url, "by the dead")
        owner.kill()
    with redis.Redis.from_url(url) as client:
        return url, int(client.info("server")["process_id"])


def test_data_outlives_a_stop(data_dir: Path) -> None:
    """Written data is there after a stop and a start, at the same address."""
    with EmbeddedServer(data_dir) as first:
        set_value(first.url, "yes")
    with EmbeddedServer(data_dir) as second:
        assert second.url == first.url
        assert get_value(second.url) == "yes"
        assert not second.adopted


def test_server_is_set_up_to_keep_what_it_acknowledged(data_dir: Path) -> None:
    """It has an append-only file synced every second, evicts nothing, makes no snapshots and serves loopback only."""
    with EmbeddedServer(data_dir) as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        wanted = {
            "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": "",
            "bind": "127.0.0.1",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        assert server.directory.stat().st_mode & 0o077 == 0


def test_stop_leaves_no_process(data_dir: Path) -> None:
    """After a stop the server's process is gone, and a second stop is harmless (OPS-2)."""
    server = EmbeddedServer(data_dir)
    url = server.start()
    server.stop()
    server.stop()
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_server_that_outlived_its_owner_is_adopted(data_dir: Path) -> None:
    """After kill -9 of its owner the next one takes over the running server with its data, and can stop it (OPS-2)."""
    url, pid = kill_owner(data_dir)
    with EmbeddedServer(data_dir) as server:
        assert server.adopted
        assert server.url == url
        assert get_value(url) == "by the dead"
    eventually(lambda: embedded._command_line(pid) == "")


@pytest.mark.parametrize(("sync_always", "policy"), [(True, "always"), (False, "everysec")])
def test_a_server_syncs_as_configured(data_dir: Path, policy: str, *, sync_always: bool) -> None:
    """Its file is synced before every answer or each second, also when it outlived an owner that wanted otherwise."""
    with EmbeddedServer(data_dir, sync_always=not sync_always) as first:
        first._disown()
        with EmbeddedServer(data_dir, sync_always=sync_always) as server, redis.Redis.from_url(server.url) as client:
            assert server.adopted
            assert client.config_get("appendfsync") == {"appendfsync": policy}
        with EmbeddedServer(data_dir, sync_always=sync_always) as server, redis.Redis.from_url(server.url) as client:
            assert not server.adopted
            assert client.config_get("appendfsync") == {"appendfsync": policy}


def test_server_that_does_not_answer_is_replaced(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that outlived its owner but hangs is ended and started again with its data (OPS-2)."""
    _, pid = kill_owner(data_dir)
    monkeypatch.setattr(embedded, "ANSWER_S", 0.3)
    monkeypatch.setattr(embedded, "STOP_S", 0.5)
    os.kill(pid, signal.SIGSTOP)
    with EmbeddedServer(data_dir) as server:
        assert not server.adopted
        assert get_value(server.url) == "by the dead"
        eventually(lambda: embedded._command_line(pid) == "")


def test_pid_of_another_process_is_never_signalled(data_dir: Path) -> None:
    """A pid file that names a foreign process does that process no harm (OPS-2)."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        server = EmbeddedServer(data_dir)
        server.directory.mkdir(parents=True)
        (server.directory / "server.pid").write_text(str(other.pid))
        with server:
            assert not server.adopted
        assert other.poll() is None
        other.communicate(b"\n")


def test_second_owner_is_refused(data_dir: Path) -> None:
    """A directory in use is refused with the owner's process id, and the first owner continues."""
    with EmbeddedServer(data_dir) as first:
        with pytest.raises(EmbeddedServerError, match=f"in use by another stenolog .process {os.getpid()}"):
            EmbeddedServer(data_dir).start()
        set_value(first.url, "still there")
        with pytest.raises(EmbeddedServerError, match="started already"):
            first.start()


def test_terminal_interrupt_does_not_reach_the_server(data_dir: Path) -> None:
    """The server has a process group of its own, so that Ctrl-C ends its clients first."""
    with EmbeddedServer(data_dir) as server, redis.Redis.from_url(server.url) as client:
        assert os.getpgid(int(client.info("server")["process_id"])) != os.getpgid(0)


def test_another_process_finds_the_running_server(data_dir: Path) -> None:
    """The data directory leads to the address of its server while it runs, and only then."""
    assert running_url(data_dir) is None
    with EmbeddedServer(data_dir) as server:
        assert running_url(data_dir) == server.url
    assert running_url(data_dir) is None


def test_server_that_died_comes_back(data_dir: Path) -> None:
    """A server that was killed under its owner is started again with its data at the same address."""
    with EmbeddedServer(data_dir) as server:
        set_value(server.url, "yes")
        url = server.url
        assert not server.ensure()
        with redis.Redis.from_url(url) as client:
            os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
        eventually(server.ensure)
        assert server.url == url
        assert get_value(url) == "yes"


def test_failed_start_says_why_and_frees_the_directory(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at its start is reported with the end of its log, and the next start works."""
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_CONF", "port {port}\nno-such-option {directory}\n")
        with pytest.raises(EmbeddedServerError, match="no-such-option"):
            EmbeddedServer(data_dir).start()
    with EmbeddedServer(data_dir) as server:
        set_value(server.url, "yes")
