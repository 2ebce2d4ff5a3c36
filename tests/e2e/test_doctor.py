"""`stenolog doctor` against real deployments, well and ill (STITCH-8)."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
import redis

from eventlog.keys import READ_MODELS
from eventlog.redis.server import connect
from stenolog.local.embedded import free_port
from stenolog.settings import Settings
from tests.e2e.test_roles import READY_S, is_ready, procfile
from tests.integration.projections.facts import a_run, opened, write
from tests.support.commands import environment, stenolog
from tests.support.servers import Server
from tests.support.waiting import eventually

SECRET = "a secret that is long enough to be one"
# Above what a worker lets pass between two heartbeats, so that a living one is never taken for dead.
STALE_S = 5
LOOKS = [
    "address", "ready", "redis", "durability", "edge", "worker", *(f"projection {name}" for name in READ_MODELS),
    "transcription", "deletion", "errors",
]  # fmt: skip


class Deployed:
    """A running deployment, and what the doctor says of it."""

    def __init__(self, url: str, processes: dict[str, subprocess.Popen[str]], cwd: Path) -> None:
        """Examine the one at `url`."""
        self.url = url
        self.processes = processes
        self._cwd = cwd

    def examined(self, *options: str, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """The exit status, and each check by its name."""
        done = stenolog("doctor", "--url", self.url, "--json", *options, cwd=self._cwd, variables=variables)
        assert done.stderr == b""
        found = json.loads(done.stdout)
        assert found["ok"] == (done.returncode == 0)
        return done.returncode, {check["name"]: check for check in found["checks"]}


@contextmanager
def deployed(redis_url: str, cwd: Path, **variables: str) -> Iterator[Deployed]:
    """The Procfile's roles, ready."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with procfile(port, REDIS_URL=redis_url, STENOLOG_READY_STALE_S=str(STALE_S), **variables) as processes:
        eventually(lambda: is_ready(url), READY_S)
        eventually(lambda: _all_beat(redis_url), READY_S)
        yield Deployed(url, processes, cwd)


def _all_beat(redis_url: str) -> bool:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return len(client.hkeys("{stenolog}:heartbeats")) == 2 + len(Settings().projections)


def wrong(checks: dict[str, dict[str, Any]]) -> set[str]:
    """The names of the checks that failed."""
    return {name for name, check in checks.items() if not check["ok"]}


def test_a_deployment_that_is_well_passes_every_check(redis_url: str, tmp_path: Path) -> None:
    """STITCH-8: each role, Redis, a probe session and its deletion get a line, and clients' mistakes don't count."""
    with deployed(redis_url, tmp_path) as found:
        for path in ("/v1/nothing", "/v1/sessions/none", "/v1/sessions?limit=x"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(found.url + path)  # noqa: S310 - our own address
        status, checks = found.examined()
        assert (status, wrong(checks), list(checks)) == (0, set(), LOOKS)
        assert "engine mock" in checks["transcription"]["detail"]
        done = stenolog("doctor", "--url", found.url, cwd=tmp_path)
        assert done.returncode == 0
        lines = done.stdout.decode().splitlines()
        assert [line[:2] for line in lines] == ["✓ "] * len(LOOKS)


def test_a_worker_that_is_gone_is_named(redis_url: str, tmp_path: Path) -> None:
    """STITCH-8: without a worker the exit status is 1, and the worker's line says so and how to start one."""
    with deployed(redis_url, tmp_path) as found:
        found.processes["worker"].send_signal(signal.SIGTERM)
        eventually(lambda: not is_ready(found.url), READY_S)
        status, checks = found.examined()
        assert status == 1
        assert wrong(checks) == {"ready", "worker", "transcription"}
        assert "stenolog worker" in checks["worker"]["remedy"]
        done = stenolog("doctor", "--url", found.url, cwd=tmp_path)
        assert done.returncode == 1
        assert "✗ worker" in done.stdout.decode()
        assert b"\x1b[" not in done.stdout


def test_a_redis_that_stands_still_is_named(standalone: Server, tmp_path: Path) -> None:
    """STITCH-8: while Redis takes no write its line says so, and the examination ends in time."""
    with deployed(standalone.url, tmp_path) as found:
        standalone.pause_ms(20_000)
        eventually(lambda: not is_ready(found.url), READY_S)  # an edge may tell what it saw a second ago
        started = time.monotonic()
        status, checks = found.examined()
        assert time.monotonic() - started < 15
        standalone.nodes[0].client.client_unpause()
    assert status == 1
    assert {"ready", "redis"} <= wrong(checks)


async def test_errors_of_the_last_minutes_are_told(redis_url: str, tmp_path: Path) -> None:
    """STITCH-8: an error that any role logged lately is a failed check that says whose."""
    with deployed(redis_url, tmp_path) as found:
        server = await connect(redis_url, partitions=Settings().partitions)
        run = a_run(server)
        await write(server, run, [opened(run), (opened(run)[0].control(), b"no fact at all")])
        await server.close()
        pid = found.processes["projections" if "projections" in found.processes else "projector"].pid

        def told() -> dict[str, dict[str, Any]]:
            status, checks = found.examined()
            assert (status, wrong(checks)) == (1, {"errors"})
            return checks

        checks = await asyncio.to_thread(eventually, told, 30.0)
        assert f"-{pid}-" in checks["errors"]["detail"]


def test_a_token_is_asked_for_and_taken(redis_url: str, tmp_path: Path) -> None:
    """STITCH-8, SAFE-4: with authentication on it says that it needs a token; with one that suffices all is well."""
    def token(scope: str) -> str:
        claims = {"sub": "doctor", "tenant_id": "t1", "scope": scope, "exp": int(time.time()) + 600}
        return jwt.encode(claims, SECRET, "HS256")

    with deployed(redis_url, tmp_path, STENOLOG_AUTH="hs256", STENOLOG_AUTH_SECRET=SECRET) as found:
        status, checks = found.examined()
        assert (status, wrong(checks)) == (1, {"access"})
        assert "--token" in checks["access"]["remedy"]
        status, checks = found.examined(STENOLOG_TOKEN=token("ingest"))
        assert (status, wrong(checks)) == (1, {"access"})
        status, checks = found.examined("--token", token("ingest read"))
        assert (status, wrong(checks)) == (0, set())


class NoEdge(BaseHTTPRequestHandler):
    """Some other server."""

    def do_GET(self) -> None:
        """Answer with something."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no.such.host.invalid", "nonsense://x", "http://["])
def test_an_address_without_an_edge_is_told(url: str, tmp_path: Path) -> None:
    """STITCH-8: where nothing answers the one line says so and what to do, without a traceback."""
    done = stenolog("doctor", "--url", url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, b"")
    first, remedy = done.stdout.decode().splitlines()
    assert first.startswith("✗ address")
    assert "--url" in remedy


def test_another_server_is_no_edge(tmp_path: Path) -> None:
    """STITCH-8: what answers but isn't an edge is told as such."""
    with HTTPServer(("127.0.0.1", 0), NoEdge) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = stenolog("doctor", "--url", f"http://127.0.0.1:{server.server_port}", cwd=tmp_path)
        server.shutdown()
    assert done.returncode == 1
    assert b"no Stenolog edge" in done.stdout


def test_ctrl_c_ends_it_without_noise(redis_url: str, tmp_path: Path) -> None:
    """Ctrl-C while the probe session waits for a worker that hangs is exit status 130, without a traceback."""
    with deployed(redis_url, tmp_path) as found:
        found.processes["worker"].send_signal(signal.SIGSTOP)
        command = [sys.executable, "-m", "stenolog", "doctor", "--url", found.url]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(PYTHONUNBUFFERED="1")
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "projection status" in line.decode():
                    break
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
        found.processes["worker"].send_signal(signal.SIGCONT)
    assert (process.returncode, err.strip()) == (130, b"")
