"""Sessions that nobody speaks in any more: who ends them, and by whose clock."""

import signal
import time
from pathlib import Path

import pytest

from tests.e2e.deployment import undisturbed
from tests.e2e.processes import Roles, spoken, texts
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import replica
from tests.support.deployment import Deployment
from tests.support.waiting import eventually_async

IDLE_S = 2
# Enough for the last keepalive to be under way on a busy machine.
IDLE = {"STENOLOG_IDLE_TIMEOUT_S": str(IDLE_S), "STENOLOG_IDLE_SWEEP_S": "1", "STENOLOG_LEASE_MS": "1000"}
DAY_S = 86_400


def transcript(roles: Roles, session_id: str) -> str:
    """A session's document, empty if it isn't there."""
    return str(roles.redis.get(roles.keys.of(session_id).document) or "")


async def test_survivors_end_a_session_whose_edge_and_worker_died(redis_url: str, tmp_path: Path) -> None:
    """SESS-7, SAFE-1: with its edge and its worker killed an idle session is ended by another, nothing acked lost."""
    audio = spoken((1,))
    with Roles(redis_url, tmp_path, **IDLE) as roles:
        edge, worker = roles.edge(), roles.worker()
        async with edge.client() as speaker:
            await speaker.begin()
            await speaker.say(audio)
            await speaker.acked(len(audio) // 2)
            await eventually_async(lambda: roles.holder(speaker.session_id) == worker.pid)
            edge.send(signal.SIGKILL)
            worker.send(signal.SIGKILL)
        roles.worker()
        roles.project()
        document = await eventually_async(lambda: transcript(roles, speaker.session_id), 30)
    assert '"reason":"idle"' in document
    assert f'"transcript":"{" ".join(undisturbed((1,)))}"' in document


async def test_a_keepalive_is_life(redis_url: str, tmp_path: Path) -> None:
    """SESS-7: a silent session that sends keepalives outlives the bound, and is ended once they stop."""
    with Roles(redis_url, tmp_path, **IDLE) as roles:
        edge = roles.edge()
        roles.worker()
        roles.project()
        async with edge.client() as speaker:
            await speaker.begin()
            until_s = time.monotonic() + 2.5 * IDLE_S

            async def kept_alive() -> bool:
                await speaker.send("keepalive")
                return time.monotonic() > until_s

            await eventually_async(kept_alive, 30)
            silent_s = time.monotonic()
            await speaker.say(spoken((1,)))  # it still takes audio
            end = await speaker.until("session_end")
        assert end["reason"] == "idle"
        assert time.monotonic() - silent_s >= IDLE_S
        assert texts(speaker.finals) == undisturbed((1,))


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_a_process_whose_clock_jumps_ends_nothing_early_or_late(
    jump_s: int, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SESS-7: idleness is measured by Redis's clock, so a worker and an edge that are a day off end the right ones."""
    true_s = time.time
    monkeypatch.setattr(time, "time", lambda: true_s() + jump_s)
    monkeypatch.setattr(time, "time_ns", lambda: int((true_s() + jump_s) * 1e9))
    async with Deployment(redis_url) as deployment, replica(redis_url) as edge, behind(redis_url):
        janitor = (await deployment.worker(idle_ms=60_000, capacity=1))._janitor
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
