"""Readiness over real processes: halted workers turn it red, and no other service suffers."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from typing import Any

from tests.e2e.conftest import READY_STALE_S, WORKERS
from tests.e2e.deployment import Conversation, Up, undisturbed
from tests.support.waiting import eventually, eventually_async

CHANGE_S = 40


def readiness(url: str) -> dict[str, Any]:
    """The body of `/v1/ready`, ready or not."""
    try:
        with urllib.request.urlopen(f"{url}/v1/ready") as answer:  # noqa: S310 - our own address
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        found = json.load(error)
    return found


async def test_halted_workers_turn_it_red(up: Up) -> None:
    """SESS-5: while all workers are halted readiness is red and audio is acked; once they continue all text comes."""
    assert readiness(up.url)["ready"]
    workers = up.pids("worker")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: not readiness(up.url)["ready"], CHANGE_S)
        assert f"no worker has consumed for {READY_STALE_S} s" in readiness(up.url)["reasons"]
        conversation = Conversation(up.url, (1,), realtime=False)
        running = asyncio.create_task(conversation.run())
        await eventually_async(lambda: conversation.of_type("ack"))
        assert not conversation.of_type("final")
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    end = await running
    assert end["transcript"] == " ".join(undisturbed((1,)))
    eventually(lambda: readiness(up.url)["ready"], CHANGE_S)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: up.is_complete(workers=WORKERS) and not set(workers) & set(up.pids("worker")), CHANGE_S)
