"""The status of a recorded file while it is processed."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from functools import cache
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.integration.decoding.recordings import FORMATS, encoded, index_first
from tests.integration.edge.replicas import RATE_HZ, Replica
from tests.support.edge_clients import status_of
from tests.support.pcm import Samples, talk
from tests.support.speech import PCM, SECOND, chunks
from tests.support.waiting import eventually_async

MINUTES = 3
# The longest that an utterance gets before it is cut, and the pause that ends one.
LATEST_S = 25.0
BOUND_S = 60.0
PROGRESS = [10, 25, 50, 75, 90, 100]
ASYNC = {"prefer": "respond-async"}


@cache
def long_talk(rate_hz: int) -> Samples:
    """Minutes of speech with pauses."""
    nine_seconds = talk(rate_hz, 1)
    return np.tile(nine_seconds, (-(-MINUTES * 60 * rate_hz // len(nine_seconds)), 1))


@cache
def long_recording(name: str) -> bytes:
    """The same as a file of a format."""
    if name == "mp4 with its index first":
        return index_first(long_recording("mp4 with its index last"))
    form = FORMATS[name]
    return encoded(long_talk(form.rate_hz), form)


async def messages_of(edge: Replica, http: httpx2.AsyncClient, **request: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - httpx2's
    """All status messages of a recording, as its listener gets them."""
    answer = await http.post("/batch/process", **request)
    assert answer.status_code == 202, answer.text
    status = status_of(edge, answer.json()["interaction_id"], last_event_id="0-0")
    async with status as stream, asyncio.timeout(BOUND_S):
        return [one.data for one in await stream.all()]


def check_milestones(messages: list[dict[str, Any]], total_s: float) -> None:
    """Each milestone comes once, when so much was processed, with an end that is estimated from the speed so far."""
    assert [one["progress"] for one in messages if one["progress"]] == PROGRESS
    for one in messages:
        if one["progress"] not in PROGRESS[:-1]:
            continue
        due_s = one["progress"] / 100 * total_s
        assert due_s - 0.1 <= one["duration_processed"] <= due_s + LATEST_S
        assert abs(one["duration_total"] - total_s) < 0.5
        left_s = (one["duration_total"] - one["duration_processed"]) / one["processing_speed"]
        estimated, now = (datetime.fromisoformat(one[name]) for name in ("estimated_completion", "timestamp"))
        assert (estimated - now).total_seconds() == pytest.approx(left_s, abs=0.01 + 0.01 * left_s)
        assert "%" in one["message"]
    assert messages[-1]["status"] == "completed"
    assert messages[-1]["duration_processed"] == pytest.approx(total_s, abs=0.5)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["wav of 16 bit", "flac", "mp3", "mp4 with its index first", "webm"])
async def test_a_recording_s_milestones_come_on_time(edge: Replica, http: httpx2.AsyncClient, name: str) -> None:
    """A file of known length has a message at 10, 25, 50, 75, 90 and 100 % (STATUS-3)."""
    messages = await messages_of(edge, http, content=long_recording(name), headers=ASYNC)
    check_milestones(messages, len(long_talk(RATE_HZ)) / RATE_HZ)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("as_form", [True, False])
async def test_samples_milestones_come_on_time(edge: Replica, http: httpx2.AsyncClient, *, as_form: bool) -> None:
    """Samples whose request announces their length have the same messages (STATUS-3)."""
    audio = long_talk(RATE_HZ).tobytes()
    request: dict[str, Any] = {"content": audio, "headers": {**PCM, **ASYNC}}
    if as_form:
        request = {"files": {"file": ("a.raw", audio, "audio/pcm")}, "headers": ASYNC}
    check_milestones(await messages_of(edge, http, **request), len(audio) / SECOND)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["webm as recorded", "bare samples in pieces"])
async def test_unknown_length_has_messages_without_progress(
    edge: Replica, http: httpx2.AsyncClient, name: str
) -> None:
    """A recording of unknown length has a message every few seconds of audio, without progress (STATUS-3)."""
    headers = {**(PCM if "samples" in name else {}), **ASYNC}
    data = long_talk(RATE_HZ).tobytes() if "samples" in name else long_recording(name)
    messages = await messages_of(edge, http, content=_pieces(data), headers=headers)
    processed = [0.0, *(one["duration_processed"] for one in messages)]
    steps = [after - before for before, after in itertools.pairwise(processed)]
    assert max(steps) < LATEST_S
    assert {one["progress"] for one in messages[1:-1]} == {None}
    assert (messages[-1]["status"], messages[-1]["progress"]) == ("completed", 100)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for piece in chunks(data, 65_536):
        yield piece


@pytest.mark.usefixtures("path")
async def test_a_pending_result_has_its_progress(edge: Replica, http: httpx2.AsyncClient) -> None:
    """Until a result is there, its address gives the last status of the recording (BATCH-1, STATUS-3)."""
    may_end = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield long_talk(RATE_HZ).tobytes()
        await may_end.wait()

    sending = asyncio.create_task(http.post("/batch/process", content=body(), headers={**PCM, **ASYNC}))
    server = edge.core.server

    async def look() -> dict[str, Any] | None:
        for name in await server.execute("KEYS", "*:session:*"):
            answer = await http.get(f"/batch/{name.decode().rpartition(':')[2]}")
            if answer.status_code == 202 and (answer.json()["status"] or {}).get("duration_processed", 0) > 60:
                found: dict[str, Any] = answer.json()
                return found
        return None

    found = await eventually_async(look, BOUND_S) or {}
    assert found["status"]["status"] == "processing"
    assert found["status"]["session_id"] == found["interaction_id"]
    may_end.set()
    assert (await sending).status_code == 202
