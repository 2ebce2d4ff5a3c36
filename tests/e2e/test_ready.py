"""Readiness over real processes: a worker that stands still turns it red, and nothing else suffers."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.deployment import Conversation, Up, undisturbed
from tests.support.waiting import eventually, eventually_async

# Heartbeats come every three seconds.
STALE_S = "7"
CHANGE_S = 40


def readiness(url: str) -> dict[str, Any]:
    """What `/v1/ready` says, green or red."""
    try:
        with urllib.request.urlopen(f"{url}/v1/ready") as answer:  # noqa: S310 - our own address
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        found = json.load(error)
    return found


async def test_a_worker_that_stands_still_turns_it_red(tmp_path: Path) -> None:
    """SESS-5: while the worker stands still readiness is red and audio is taken; once it goes on all is there."""
    with Up(tmp_path / "data", STENOLOG_READY_STALE_S=STALE_S) as up:
        assert readiness(up.url)["ready"]
        [worker] = up.pids("worker")
        os.kill(worker, signal.SIGSTOP)
        try:
            eventually(lambda: not readiness(up.url)["ready"], CHANGE_S)
            assert f"no worker has consumed for {STALE_S} s" in readiness(up.url)["reasons"]
            conversation = Conversation(up.url, (1,), realtime=False)
            holding = asyncio.create_task(conversation.hold())
            await eventually_async(lambda: conversation.of_type("ack"))
            assert not conversation.of_type("final")
        finally:
            os.kill(worker, signal.SIGCONT)
        end = await holding
        assert end["transcript"] == " ".join(undisturbed((1,)))
        eventually(lambda: readiness(up.url)["ready"], CHANGE_S)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: up.pids("worker") not in ([], [worker]), CHANGE_S)
        eventually(lambda: readiness(up.url)["ready"], CHANGE_S)
