"""Sessions without a client: survivors end them, and a keepalive keeps them."""

import signal
import time
from pathlib import Path

from tests.e2e.deployment import undisturbed
from tests.e2e.processes import Roles, spoken, texts
from tests.support.waiting import eventually_async

IDLE_S = 2
# Enough for a keepalive to arrive in time on a busy machine.
IDLE = {"STENOLOG_IDLE_TIMEOUT_S": str(IDLE_S), "STENOLOG_IDLE_SWEEP_S": "1", "STENOLOG_LEASE_MS": "1000"}


def transcript(roles: Roles, session_id: str) -> str:
    """A session's document, or empty text."""
    return str(roles.redis.get(roles.keys.of(session_id).document) or "")


async def test_survivors_end_a_session_whose_edge_and_worker_died(redis_url: str, tmp_path: Path) -> None:
    """SESS-7, SAFE-1: another worker ends an idle session whose edge and worker died, and no acked audio is lost."""
    audio = spoken((1,))
    with Roles(redis_url, tmp_path, **IDLE) as roles:
        edge, worker, _ = roles.one_of_each()
        async with edge.client() as speaker:
            await speaker.begin()
            await speaker.say(audio)
            await speaker.acked(len(audio) // 2)
            await eventually_async(lambda: roles.holder(speaker.session_id) == worker.pid)
            edge.send(signal.SIGKILL)
            worker.send(signal.SIGKILL)
        roles.worker()
        document = await eventually_async(lambda: transcript(roles, speaker.session_id), 30)
    assert '"reason":"idle"' in document
    assert f'"transcript":"{" ".join(undisturbed((1,)))}"' in document


async def test_keepalives_hold_off_the_idle_timeout(redis_url: str, tmp_path: Path) -> None:
    """SESS-7: a silent session with keepalives outlives the bound, and ends once they stop."""
    with Roles(redis_url, tmp_path, **IDLE) as roles:
        edge, *_ = roles.one_of_each()
        async with edge.client() as speaker:
            await speaker.begin()
            until_s = time.monotonic() + 1.5 * IDLE_S

            async def has_outlived_bound() -> bool:
                await speaker.send("keepalive")
                return time.monotonic() > until_s

            await eventually_async(has_outlived_bound, 30)
            silent_s = time.monotonic()
            await speaker.say(spoken((1,)))  # it still takes audio
            end = await speaker.until("session_end")
        assert end["reason"] == "idle"
        assert time.monotonic() - silent_s >= IDLE_S
        assert texts(speaker.finals) == undisturbed((1,))
