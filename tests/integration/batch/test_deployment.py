"""Recorded files through real processes, some of which die."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.e2e.deployment import Up
from tests.integration.decoding.recordings import Format, encoded
from tests.support.pcm import talk
from tests.support.waiting import eventually

LEASE = {"STENOLOG_LEASE_MS": "1500"}
BOUND_S = 60.0


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A deployment that the tests share: whatever they kill in it comes back."""
    with Up(tmp_path_factory.mktemp("data"), **LEASE) as running:
        yield running


def recorded() -> bytes:
    """A FLAC of some speech."""
    return encoded(talk(16_000, 1), Format("flac", "flac", 16_000))


def asked(up: Up, method: str, path: str, **request: Any) -> httpx2.Response | None:  # noqa: ANN401 - httpx2's
    """An answer; None while no edge is there."""
    try:
        return httpx2.request(method, up.url + path, timeout=BOUND_S, **request)
    except httpx2.TransportError:
        return None


def result(up: Up, path: str) -> dict[str, Any]:
    """The result at an address, once it is there."""

    def look() -> dict[str, Any] | None:
        answer = asked(up, "GET", path)
        found: dict[str, Any] | None = answer.json() if answer is not None and answer.status_code == 200 else None
        return found

    return eventually(look, BOUND_S) or {}


def test_a_durable_recording_survives_every_death(up: Up) -> None:
    """After 202 an edge and a worker that are killed cost time, and not a word of the recording (BATCH-1, SAFE-1)."""
    undisturbed = asked(up, "POST", "/batch/process", content=recorded())
    assert undisturbed is not None
    assert undisturbed.status_code == 200, undisturbed.text
    taken = asked(up, "POST", "/batch/process", content=recorded(), headers={"prefer": "respond-async"})
    assert taken is not None
    assert taken.status_code == 202
    for role in ("worker", "edge"):
        for pid in up.pids(role):
            os.kill(pid, signal.SIGKILL)
    found = result(up, taken.json()["result_url"])
    for name in ("raw_transcript", "cleaned_transcript", "segments", "audio_seconds", "reason"):
        assert found[name] == undisturbed.json()[name]
    assert found["raw_transcript"]


def test_a_recording_whose_edge_dies_is_sent_again(up: Up) -> None:
    """A client whose edge dies sees the broken connection, and succeeds by sending the recording again (BATCH-1)."""

    def body() -> Iterator[bytes]:
        yield recorded()[:5000]
        eventually(lambda: asked(up, "GET", "/v1/sessions?state=created") is not None, BOUND_S)
        for pid in up.pids("edge"):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + BOUND_S
        while time.monotonic() < deadline:  # until the connection says so
            yield bytes(65_536)

    with pytest.raises(httpx2.TransportError):
        httpx2.post(f"{up.url}/batch/process", content=body(), timeout=BOUND_S)
    eventually(lambda: (answer := asked(up, "GET", "/v1/health")) is not None and answer.status_code == 200, BOUND_S)
    answer = asked(up, "POST", "/batch/process", content=recorded())
    assert answer is not None
    assert answer.status_code == 200, answer.text
