"""`stenolog doctor` against real deployments, healthy and failing (STITCH-8)."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest

from eventlog.keys import READ_MODELS
from eventlog.redis.server import connect
from stenolog.settings import Settings
from tests.e2e.conftest import AUTH_SECRET
from tests.e2e.deployment import Up, is_ready
from tests.e2e.procfile import READY_S, Procfile
from tests.integration.projections.facts import a_run, opened, write
from tests.support import servers
from tests.support.commands import environment, stenolog
from tests.support.servers import Server
from tests.support.waiting import eventually

# Above the time between two heartbeats of a worker, so that a live one never counts as dead.
STALE_S = 5
CHECKS = [
    "address", "ready", "redis", "durability", "edge", "worker", *(f"projection {name}" for name in READ_MODELS),
    "transcription", "deletion", "errors",
]  # fmt: skip


class Deployed(NamedTuple):
    """A deployment with a Redis of its own, which the tests of this module share."""

    procfile: Procfile
    server: Server


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    directory = tmp_path_factory.mktemp("doctor")
    with servers.standalone() as server, Procfile(
        server.url, directory, STENOLOG_READY_STALE_S=str(STALE_S)
    ) as procfile:
        yield Deployed(procfile, server)


@pytest.fixture
def deployed(_shared: Deployed) -> Deployed:
    """All roles run and are ready. The tests that log errors come last, as these count for minutes."""
    _shared.procfile.start_missing()
    return _shared


def examined(url: str, cwd: Path, *options: str, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status of the examination, and each check by its name."""
    done = stenolog("doctor", "--url", url, "--json", *options, cwd=cwd, variables=variables)
    assert done.stderr == b""
    found = json.loads(done.stdout)
    assert found["ok"] == (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in found["checks"]}


def examined_twice(url: str, cwd: Path) -> tuple[int, dict[str, dict[str, Any]], subprocess.CompletedProcess[bytes]]:
    """Two examinations at the same time: the one's status and checks, and the other's text."""
    with ThreadPoolExecutor() as pool:
        text = pool.submit(stenolog, "doctor", "--url", url, cwd=cwd)
        return *examined(url, cwd), text.result()


def has_worker(url: str) -> bool:
    """Whether the edge still counts a worker as alive."""
    with urllib.request.urlopen(f"{url}/v1/diagnostics") as answer:  # noqa: S310 - our own address
        return any(one["role"] == "worker" and one["alive"] for one in json.load(answer)["processes"])


def failed(checks: dict[str, dict[str, Any]]) -> set[str]:
    """The names of the checks that failed."""
    return {name for name, check in checks.items() if not check["ok"]}


def test_a_healthy_deployment_passes_every_check(deployed: Deployed, tmp_path: Path) -> None:
    """STITCH-8: each role, Redis, a probe session and its deletion get a line, and clients' errors don't count."""
    url = deployed.procfile.url
    for path in ("/v1/nothing", "/v1/sessions/none", "/v1/sessions?limit=x"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(url + path)  # noqa: S310 - our own address
    status, checks, text = examined_twice(url, tmp_path)
    assert (status, failed(checks), list(checks)) == (0, set(), CHECKS)
    assert "engine mock" in checks["transcription"]["detail"]
    assert text.returncode == 0
    assert [line[:2] for line in text.stdout.decode().splitlines()] == ["✓ "] * len(CHECKS)


def test_ctrl_c_ends_it_without_noise(deployed: Deployed) -> None:
    """Ctrl-C while the probe session waits for a halted worker is exit status 130, without a traceback."""
    worker = deployed.procfile.processes["worker"]
    worker.send(signal.SIGSTOP)
    command = [sys.executable, "-m", "stenolog", "doctor", "--url", deployed.procfile.url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(PYTHONUNBUFFERED="1")
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "projection status" in line.decode():
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    worker.send(signal.SIGCONT)
    assert (process.returncode, err.strip()) == (130, b"")


def test_a_missing_worker_is_named(deployed: Deployed, tmp_path: Path) -> None:
    """STITCH-8: without a worker the exit status is 1, and the worker's line says so and how to start one."""
    url, worker = deployed.procfile.url, deployed.procfile.processes["worker"]
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    eventually(lambda: not has_worker(url), READY_S)
    status, checks, text = examined_twice(url, tmp_path)
    assert status == 1
    assert failed(checks) == {"ready", "worker", "transcription"}
    assert "stenolog worker" in checks["worker"]["remedy"]
    assert text.returncode == 1
    assert "✗ worker" in text.stdout.decode()
    assert b"\x1b[" not in text.stdout


async def test_errors_of_the_last_minutes_are_reported(deployed: Deployed, tmp_path: Path) -> None:
    """STITCH-8: an error that any role logged lately is a failed check that names the role's process."""
    server = await connect(deployed.server.url, partitions=Settings().partitions)
    run = a_run(server)
    await write(server, run, [opened(run), (opened(run)[0].control(), b"no fact at all")])
    await server.close()
    pid = deployed.procfile.processes["projector"].pid

    def reported() -> dict[str, dict[str, Any]]:
        status, checks = examined(deployed.procfile.url, tmp_path)
        assert (status, failed(checks)) == (1, {"errors"})
        return checks

    checks = await asyncio.to_thread(eventually, reported, 30.0)
    assert f"-{pid}-" in checks["errors"]["detail"]


def test_a_stalled_redis_is_named(deployed: Deployed, tmp_path: Path) -> None:
    """STITCH-8: while Redis answers nothing its line says so, and the examination ends in time."""
    url = deployed.procfile.url
    [node] = deployed.server.nodes
    node.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: not is_ready(url), READY_S)  # an edge may answer from what it saw a second ago
        started = time.monotonic()
        status, checks = examined(url, tmp_path)
        assert time.monotonic() - started < 15
    finally:
        node.process.send_signal(signal.SIGCONT)
    assert status == 1
    assert {"ready", "redis"} <= failed(checks)


def test_a_token_is_required_and_accepted(secured_up: Up, tmp_path: Path) -> None:
    """STITCH-8, SAFE-4: with authentication on it says that it needs a token; with a sufficient one all is well."""
    def token(scope: str) -> str:
        claims = {"sub": "doctor", "tenant_id": "t1", "scope": scope, "exp": int(time.time()) + 600}
        return jwt.encode(claims, AUTH_SECRET, "HS256")

    status, checks = examined(secured_up.url, tmp_path)
    assert (status, failed(checks)) == (1, {"access"})
    assert "--token" in checks["access"]["remedy"]
    status, checks = examined(secured_up.url, tmp_path, STENOLOG_TOKEN=token("ingest"))
    assert (status, failed(checks)) == (1, {"access"})
    status, checks = examined(secured_up.url, tmp_path, "--token", token("ingest read"))
    assert (status, failed(checks)) == (0, set())
