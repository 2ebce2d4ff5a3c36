"""The receiver under examples/, run as its users run it."""

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest

from eventlog.projection.webhook_subscriptions import Subscriptions, decode_secret, new_secret
from projections.forwarding.sink import SENT
from projections.webhooks import Webhooks
from projections.webhooks.signing import signed_headers
from stenolog.local.embedded import free_port
from tests.integration.webhooks.receivers import Receiver, make_event, subscribe
from tests.support.tree import ROOT
from tests.support.waiting import eventually

START_S = 30.0
SECRET = new_secret()


@pytest.fixture
def example() -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Its address, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "webhook_receiver:app", "--app-dir", str(ROOT / "examples"), "--port",
               str(port), "--log-level", "warning"]  # fmt: skip
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        url = f"http://127.0.0.1:{port}/"
        try:
            eventually(lambda: answers(url), START_S)
            yield url, process
        finally:
            process.kill()


def answers(url: str) -> bool:
    """Whether it is up."""
    try:
        return httpx2.get(url).status_code == 405
    except httpx2.ConnectError:
        return False


async def test_the_example_takes_sent_events(
    sink: Webhooks, subscriptions: Subscriptions, example: tuple[str, "subprocess.Popen[str]"]
) -> None:
    """The example receiver takes a real delivery, shows an event that comes twice once, and refuses forged ones."""
    url, process = example
    receiver = Receiver()
    receiver.url, receiver.secret = url, SECRET
    await subscribe(subscriptions, receiver)
    for number in (1, 1, 2):
        assert await sink.send([make_event(number)]) == [SENT]
    body, now = b'{"type": "x", "timestamp": "", "data": {}}', int(time.time())
    forged = signed_headers(decode_secret(new_secret()), "id", now, body)
    old = signed_headers(base64.b64decode(SECRET[6:]), "id", now - 600, body)
    async with httpx2.AsyncClient() as client:
        for headers in (forged, old, []):
            assert (await client.post(url, headers=headers, content=body)).status_code == 401
    assert process.stdout is not None
    shown = [(await asyncio.to_thread(process.stdout.readline)).split()[0] for _ in range(2)]
    assert shown == ["TranscriptEnded"] * 2
    process.kill()
    assert process.stdout.read() == ""
