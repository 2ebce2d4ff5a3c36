"""A session that kills every process which recognises it, and the worker processes that quarantine it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.deadly_workers import Workers
from tests.support.deployment import Deployment, Session
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

DEADLY_RATE_HZ = 8_000
# Four starts of a worker, each with a lease before its first takeover, and two quarantine trials.
TIMEOUT_S = 60


@pytest.fixture
def workers(tmp_path: Path, redis_url: str) -> Iterator[Workers]:
    """A supervised worker that the session kills."""
    found = Workers(redis_url, tmp_path, clip=f"sample_rate_hz == {DEADLY_RATE_HZ}")
    yield found
    found.stop()


async def quarantined(session: Session, deployment: Deployment) -> list[list[bytes]]:
    """The list of quarantined runs of a session's partition."""
    return [fields for _, fields in await deployment.server.execute(
        "XRANGE", session.keys.partition.quarantined, "-", "+")]


async def test_a_session_that_kills_its_workers_is_quarantined(redis_url: str, workers: Workers) -> None:
    """SAFE-3: a session that killed three workers and its trial is quarantined; its neighbour is unaffected."""
    async with Deployment(redis_url) as deployment:
        deadly = await deployment.spoken(Story(talk(DEADLY_RATE_HZ), DEADLY_RATE_HZ))
        well = await deployment.spoken(Story(np.roll(talk(), 8_000, axis=0)))

        async def is_over() -> bool:
            workers.look()
            return bool(await quarantined(deadly, deployment)) and await well.has_ended()

        await eventually_async(is_over, TIMEOUT_S)
        [fields] = await quarantined(deadly, deployment)
        assert fields[1] == deadly.run.member.encode()
        assert b"killing workers" in fields[3]
        assert workers.deaths == 3
        assert await deadly.finals() == 0
        assert await well.facts() == well.expected()
        late = await deployment.spoken(Story(talk()))
        await deployment.ended(late)
        assert workers.deaths == 3
