"""Recordings through real processes, some of which die."""

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

BOUND_S = 60.0


def recorded() -> bytes:
    """A FLAC of speech."""
    return encoded(talk(16_000, 1), Format("flac", "flac", 16_000))


def request(up: Up, method: str, path: str, **options: Any) -> httpx2.Response | None:  # noqa: ANN401 - httpx2's
    """A response; None while no edge runs."""
    try:
        return httpx2.request(method, up.url + path, timeout=BOUND_S, **options)
    except httpx2.TransportError:
        return None


def result(up: Up, path: str) -> dict[str, Any]:
    """The result at a path, once it exists."""

    def find() -> dict[str, Any] | None:
        answer = request(up, "GET", path)
        found: dict[str, Any] | None = answer.json() if answer is not None and answer.status_code == 200 else None
        return found

    return eventually(find, BOUND_S) or {}


def test_an_accepted_recording_survives_the_death_of_edge_and_worker(up: Up) -> None:
    """After 202 the death of edge and workers costs time and no word of the recording (BATCH-1, SAFE-1)."""
    undisturbed = request(up, "POST", "/batch/process", content=recorded())
    assert undisturbed is not None
    assert undisturbed.status_code == 200, undisturbed.text
    accepted = request(up, "POST", "/batch/process", content=recorded(), headers={"prefer": "respond-async"})
    assert accepted is not None
    assert accepted.status_code == 202
    for role in ("worker", "edge"):
        for pid in up.pids(role):
            os.kill(pid, signal.SIGKILL)
    found = result(up, accepted.json()["result_url"])
    for name in ("raw_transcript", "cleaned_transcript", "segments", "audio_seconds", "reason"):
        assert found[name] == undisturbed.json()[name]
    assert found["raw_transcript"]


def test_a_recording_whose_edge_died_can_be_sent_again(up: Up) -> None:
    """An edge's death breaks the sender's connection, and sending the recording again succeeds (BATCH-1)."""

    def body() -> Iterator[bytes]:
        yield recorded()[:5000]
        eventually(lambda: request(up, "GET", "/v1/sessions?state=created") is not None, BOUND_S)
        for pid in up.pids("edge"):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + BOUND_S
        while time.monotonic() < deadline:  # until the connection breaks
            yield bytes(65_536)

    with pytest.raises(httpx2.TransportError):
        httpx2.post(f"{up.url}/batch/process", content=body(), timeout=BOUND_S)
    eventually(lambda: (answer := request(up, "GET", "/v1/health")) is not None and answer.status_code == 200, BOUND_S)
    answer = request(up, "POST", "/batch/process", content=recorded())
    assert answer is not None
    assert answer.status_code == 200, answer.text
