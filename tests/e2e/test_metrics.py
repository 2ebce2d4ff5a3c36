"""The metrics and logs of real processes."""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import jwt
import websockets

from tests.e2e.deployment import Up, speech
from tests.support.commands import environment
from tests.support.scraping import names, of, samples
from tests.support.tree import ROOT
from tests.support.waiting import eventually

SECRET = "a canary that sings in no log, and is long enough to sign with"
PAGE = ROOT / "docs/observability.md"
SENTENCES = [0, 1]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody uses now, and that the system gives to nobody by itself."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        if all(is_free(port + number) for number in range(count)):
            return int(port)
    raise AssertionError("no ports are free")


def is_free(port: int) -> bool:
    """Whether a port can be bound."""
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def token(**claims: Any) -> str:  # noqa: ANN401 - a claim may be anything
    """A token that the deployment takes."""
    given = {"sub": "ana", "tenant_id": "acme", "scope": "ingest read", "exp": 4e9, **claims}
    return jwt.encode(given, SECRET, "HS256")


async def converse(up: Up, canaries: list[str]) -> list[dict[str, Any]]:
    """Hold a traced session and be refused in some ways; what must not be logged goes into `canaries`."""
    url = f"{up.url.replace('http', 'ws', 1)}/v1/transcribe/stream"
    bearer = {"authorization": f"Bearer {token()}", "traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    canaries += [token(), SECRET]
    told: list[dict[str, Any]] = []
    async with websockets.connect(url, additional_headers=bearer, max_size=None) as client:
        await client.send('{"type": "canaryword"}')
        for block in speech(SENTENCES):
            await client.send(block)
        await client.send('{"type": "stop"}')
        told += [json.loads(message) async for message in client]
    canaries.append(told[0]["resume_token"])
    for refused in ("?access=canaryquery", "?session_id=canaryid&resume_token=canarytoken"):
        bad = {"authorization": "Bearer canary.bearer.x"}
        async with websockets.connect(url + refused, additional_headers=bad) as one:
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    await one.recv()
    async with httpx2.AsyncClient(base_url=up.url) as client:
        await client.get("/v1/sessions", headers={"authorization": "Bearer canary.bearer.y"})
        await client.get("/v1/sessions/canarysession/events", params={"ticket": "canaryticket"})
        await client.post("/v1/transcribe", content=b"canaryaudio", headers={"authorization": bearer["authorization"]})
    canaries += ["canary"]
    return told


def test_every_role_offers_its_metrics_and_logs_no_secret(tmp_path: Path) -> None:
    """Each role's metrics, all documented, can be scraped, and its log is JSON without text or secrets (OPS-3)."""
    canaries: list[str] = []
    first = free_ports(3)
    with Up(
        tmp_path / "data", "--metrics-port", str(first), STENOLOG_AUTH="hs256", STENOLOG_AUTH_SECRET=SECRET,
        STENOLOG_LOG_LEVEL="debug",
    ) as up:
        told = asyncio.run(converse(up, canaries))
        where = {one["role"]: one["url"] for one in up.ready["metrics"]}
        assert list(where) == ["edge", "worker", "projector"]
        texts = [httpx2.get(url).text for url in where.values()]
    edge, worker, project = map(samples, texts)
    finals = [one for one in told if one["type"] == "final"]
    assert told[-1]["type"] == "session_end"
    assert of(edge, "stenolog_edge_sessions_opened_total", how="created") == 2  # the recording's too
    assert of(edge, "stenolog_role_info", role="edge") == 1
    assert of(worker, "stenolog_worker_final_latency_seconds_count") == len(finals)
    assert of(worker, "stenolog_worker_recognition_duration_seconds_count", engine="mock", kind="final") > 0
    assert of(worker, "stenolog_worker_commits_total", code="ok") > 0
    assert of(worker, "stenolog_worker_segmenting_seconds_total") > 0
    assert {"stenolog_worker_runs", "stenolog_worker_takeovers_total", "stenolog_worker_decoders"} <= names(worker)
    assert of(project, "stenolog_projection_applied_facts_total", projection="lists") >= len(finals)
    assert {("stenolog_projection_pending_notices", frozenset({("projection", name)})) for name in ("lists", "feeds")
            } <= set(project)  # fmt: skip
    offered = set(re.findall(r"^# TYPE (stenolog_\w+)", "\n".join(texts), re.MULTILINE))
    assert offered == set(re.findall(r"`(stenolog_\w+)`", PAGE.read_text()))
    assert all("process_resident_memory_bytes" in names(role) for role in (edge, worker, project))
    check_logs(up, told, canaries)


def check_logs(up: Up, told: list[dict[str, Any]], canaries: list[str]) -> None:
    """What the roles wrote: records only, that trace the session and hold nothing that is not theirs to tell."""
    assert [line for line in up.lines if line["level"] == "none"] == []
    session_id = told[0]["session_id"]
    mine = [line for line in up.lines if line.get("session_id") == session_id]
    traced = {line["role"] for line in mine if line.get("trace_id") == TRACE_ID}
    assert traced >= {"edge", "worker"}
    written = json.dumps(up.lines, ensure_ascii=False)
    assert [canary for canary in canaries if canary in written] == []
    texts = [one["text"] for one in told if one["type"] in {"final", "partial"}]
    assert texts
    assert [text for text in texts if text in written] == []


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """A role whose metrics port is in use says so, names the setting and ends as unable."""
    with Up(tmp_path / "data") as up, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "stenolog", "projector", "--metrics-port", port],
            env=environment(REDIS_URL=up.ready["redis"]), capture_output=True, text=True, timeout=60, check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 2
    assert "STENOLOG_METRICS_PORT" in done.stderr
    assert port in done.stderr


def test_a_dead_role_is_scraped_again_where_it_was(tmp_path: Path) -> None:
    """A role that is started again after its death offers its metrics at the same address."""
    first = free_ports(3)
    with Up(tmp_path / "data", "--metrics-port", str(first)) as up:
        url = next(one["url"] for one in up.ready["metrics"] if one["role"] == "projector")
        [pid] = up.pids("projector")
        started = of(samples(httpx2.get(url).text), "process_start_time_seconds")
        os.kill(pid, signal.SIGKILL)

        def again() -> bool:
            try:
                return of(samples(httpx2.get(url).text), "process_start_time_seconds") > started
            except httpx2.TransportError:
                return False

        eventually(again, 30)
