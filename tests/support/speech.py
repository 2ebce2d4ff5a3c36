"""Speech for the edge's tests, and clients that send it by HTTP."""

import random
from typing import Any

import httpx2

from tests.integration.edge.replicas import RATE_HZ, Replica
from tests.support.tree import ROOT

RECORDINGS = ROOT / "tests/recordings"
SECOND = 2 * RATE_HZ
"""Bytes of a second of 16 kHz mono."""
PCM = {"content-type": "audio/l16"}
# No test asks for more than a few seconds of work; a busy machine stalls for seconds.
ANSWER_S = 60.0


def speech(utterances: int, seed: int = 7) -> bytes:
    """Noise bursts with pauses, which the VAD takes for speech and silence."""
    chance = random.Random(seed)
    return b"".join(chance.randbytes(SECOND) + bytes(3 * SECOND // 2) for _ in range(utterances))


def chunks(audio: bytes, size: int = SECOND) -> list[bytes]:
    """The audio in chunks."""
    return [audio[first : first + size] for first in range(0, len(audio), size)]


def client_of(edge: Replica) -> httpx2.AsyncClient:
    """A client of an edge."""
    return httpx2.AsyncClient(base_url=edge.http, timeout=ANSWER_S)


async def started(client: httpx2.AsyncClient, **options: Any) -> str:  # noqa: ANN401 - any option
    """The id of a new session, of raw samples by default."""
    answer = await client.post("/live/start", json={"encoding": "linear16", **options})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session_id"])


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """Status and error code of an answer."""
    return answer.status_code, answer.json()["code"]
