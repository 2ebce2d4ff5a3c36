"""Idle sessions by Redis's clock, whatever the clocks of processes say."""

import time

import pytest

from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import replica
from tests.support.deployment import Deployment

DAY_S = 86_400


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_idleness_is_measured_by_redis_clock(
    jump_s: int, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SESS-7: a worker and an edge whose clocks are a day off end the idle session alone."""
    true_s = time.time
    monkeypatch.setattr(time, "time", lambda: true_s() + jump_s)
    monkeypatch.setattr(time, "time_ns", lambda: int((true_s() + jump_s) * 1e9))
    async with Deployment(redis_url) as deployment, replica(redis_url) as edge, behind(redis_url):
        janitor = (await deployment.worker(idle_ms=60_000, capacity=1, sweep_s=1))._janitor
        async with edge.connect() as living, edge.connect() as idle:
            sessions = [(await client.next())["session_id"] for client in (living, idle)]
            await living.speak(1)
            await living.acked(1)
            keys = deployment.server.keys.of(sessions[1])
            await deployment.server.execute("HSET", keys.session, "seen_ms", await deployment.server.time_ms() - 61_000)
            await janitor.sweep()
            assert (await idle.until("session_end"))["reason"] == "idle"
            await living.speak(1, first=2)
            await living.send("stop")
            assert (await living.until("session_end"))["reason"] == "stop"
