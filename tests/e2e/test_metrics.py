"""The metrics and logs of real processes."""

import asyncio
import contextlib
import json
import os
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

from tests.e2e.conftest import AUTH_SECRET
from tests.e2e.deployment import Up, speech
from tests.support.commands import environment
from tests.support.metric_samples import Samples, names, of, samples
from tests.support.tree import ROOT
from tests.support.waiting import eventually

PAGE = ROOT / "docs/observability.md"
SENTENCES = [0, 1]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def token(**claims: Any) -> str:  # noqa: ANN401 - a claim may be anything
    """A token that the deployment accepts."""
    given = {"sub": "ana", "tenant_id": "acme", "scope": "ingest read", "exp": 4e9, **claims}
    return jwt.encode(given, AUTH_SECRET, "HS256")


async def converse(up: Up, canaries: list[str]) -> list[dict[str, Any]]:
    """Run a traced session and some refused requests; all that no log may hold goes into `canaries`."""
    url = f"{up.url.replace('http', 'ws', 1)}/v1/transcribe/stream"
    bearer = {"authorization": f"Bearer {token()}", "traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    canaries += [token(), AUTH_SECRET]
    messages: list[dict[str, Any]] = []
    async with websockets.connect(url, additional_headers=bearer, max_size=None) as client:
        await client.send('{"type": "canaryword"}')
        for block in speech(SENTENCES):
            await client.send(block)
        await client.send('{"type": "stop"}')
        messages += [json.loads(message) async for message in client]
    canaries.append(messages[0]["resume_token"])
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
    return messages


def exposed(up: Up) -> list[str]:
    """The metrics that edge, worker and projector expose now."""
    urls = {one["role"]: one["url"].replace("0.0.0.0", "127.0.0.1") for one in up.ready["metrics"]}  # noqa: S104
    assert list(urls) == ["edge", "worker", "projector"]
    return [httpx2.get(url).text for url in urls.values()]


def created(edge: Samples) -> float:
    """How many sessions an edge has created."""
    return of(edge, "stenolog_edge_sessions_opened_total", type="created")


def test_every_role_exposes_its_metrics_and_logs_no_secret(secured_up: Up) -> None:
    """Each role's metrics, all documented, can be scraped, and its log is JSON without text or secrets (OPS-3)."""
    canaries: list[str] = []
    created_before = created(samples(exposed(secured_up)[0]))
    messages = asyncio.run(converse(secured_up, canaries))
    texts = exposed(secured_up)
    edge, worker, project = map(samples, texts)
    finals = [one for one in messages if one["type"] == "final"]
    assert messages[-1]["type"] == "session_end"
    assert created(edge) - created_before == 2  # the recording's too
    assert of(edge, "stenolog_role_info", role="edge") == 1
    assert of(worker, "stenolog_worker_final_latency_seconds_count") >= len(finals)
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
    check_logs(secured_up, messages, canaries)


def check_logs(up: Up, messages: list[dict[str, Any]], canaries: list[str]) -> None:
    """Assert that the log is records only, which trace the session and hold no text and no secret."""
    assert [line for line in up.lines if line["level"] == "none"] == []
    session_id = messages[0]["session_id"]
    mine = [line for line in up.lines if line.get("session_id") == session_id]
    traced = {line["role"] for line in mine if line.get("trace_id") == TRACE_ID}
    assert traced >= {"edge", "worker"}
    written = json.dumps(up.lines, ensure_ascii=False)
    assert [canary for canary in canaries if canary in written] == []
    texts = [one["text"] for one in messages if one["type"] in {"final", "partial"}]
    assert texts
    assert [text for text in texts if text in written] == []


def test_a_metrics_port_in_use_is_reported(up: Up, tmp_path: Path) -> None:
    """A role whose metrics port is in use says so, names the setting and ends as unable."""
    with socket.socket() as taken:
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


def test_a_restarted_role_keeps_its_metrics_address(secured_up: Up) -> None:
    """A role restarted after its death exposes its metrics at the same address."""
    started_s = of(samples(exposed(secured_up)[-1]), "process_start_time_seconds")
    [pid] = secured_up.pids("projector")
    os.kill(pid, signal.SIGKILL)

    def is_restarted() -> bool:
        try:
            return of(samples(exposed(secured_up)[-1]), "process_start_time_seconds") > started_s
        except httpx2.TransportError:
            return False

    eventually(is_restarted, 30)
