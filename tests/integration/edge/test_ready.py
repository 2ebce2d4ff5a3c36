"""Readiness counts a process that writes heartbeats but does no work as dead."""

import re

import pytest

from eventlog.keys import heartbeats as heartbeats_key
from eventlog.work import heartbeats
from eventlog.work.claims import Claims
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import PARTITIONS, Replica, replica
from tests.integration.edge.test_sessions import ask
from tests.support.waiting import eventually_async

ALL = ("lists", "feeds", "sessions", "status")


async def beat(edge: Replica, *projections: str, **worker: float) -> None:
    """Heartbeats of these projections and of a worker that says this."""
    for name in projections:
        await heartbeats.write(edge.core.server, f"projection.{name}", "p1", {})
    await heartbeats.write(edge.core.server, "worker", "w1", worker)


async def readiness(edge: Replica) -> dict[str, object]:
    """What it says now."""
    answer = await ask(edge, "/v1/ready")
    body: dict[str, object] = answer.json()
    assert answer.status_code == (200 if body["ready"] else 503)
    return body


async def test_a_complete_deployment_is_ready(edge: Replica) -> None:
    """With a worker and every projection at work it is green, without reason or warning (SESS-5)."""
    await beat(edge, *ALL, consumed_age_s=0.1)
    found = await readiness(edge)
    assert (found["ready"], found["reasons"], found["warnings"]) == (True, [], [])
    assert (found["workers"], found["projections"]) == (1, dict.fromkeys(ALL, 1))


@pytest.mark.parametrize(("worker", "reason"), [
    ({"consumed_age_s": 16.0}, "no worker has consumed for 15 s"),
    ({"consumed_age_s": 0.1, "oldest_decision_s": 31.0}, "speech waits for its text for 3[1-9] s"),
])  # fmt: skip
async def test_a_worker_that_only_beats_is_not_alive(edge: Replica, worker: dict[str, float], reason: str) -> None:
    """A worker whose reads hang, or whose recogniser does, turns it red although its heart beats (SESS-5)."""
    await beat(edge, *ALL, **worker)
    found = await readiness(edge)
    assert not found["ready"]
    [given] = found["reasons"]  # type: ignore[misc]
    assert re.fullmatch(reason, given)  # type: ignore[has-type]


@pytest.mark.parametrize("missing", ALL)
async def test_projections_are_missed_by_name(edge: Replica, missing: str) -> None:
    """A projection without a heartbeat is named; without lists or feeds it is red, without others not (SESS-5)."""
    await beat(edge, *(name for name in ALL if name != missing))
    found = await readiness(edge)
    reasons = [f"projection {missing} has had no heartbeat for 15 s"]
    is_unready = missing in {"lists", "feeds"}
    assert (found["ready"], found["reasons"], found["warnings"]) == (
        not is_unready, reasons if is_unready else [], [] if is_unready else reasons
    )  # fmt: skip


async def test_an_unclaimed_session_makes_it_unready(redis_url: str) -> None:
    """A session that waits too long for a worker, and facts that wait for lists or feeds, are reported (SESS-5)."""
    async with replica(redis_url, ready_lag_s=0.2) as edge, edge.connect() as client:
        await Claims(edge.core.server, "w1", lease_ms=5000, session_ttl_s=60).ensure_groups()
        for name in ALL:  # as a projection's first read makes it
            for partition in edge.core.server.keys.partitions:
                await edge.core.server.execute("XGROUP", "CREATE", partition.changes, name, "0", "MKSTREAM")
        await client.next()
        await beat(edge, *ALL)

        async def is_reported() -> bool:
            found = await readiness(edge)
            reasons, warnings = (" ".join(map(str, found[kind] or ())) for kind in ("reasons", "warnings"))  # type: ignore[call-overload]
            assert "a session waits for a worker for" in reasons
            assert "a notice waits for projection lists for" in reasons
            assert "a notice waits for projection feeds for" in reasons
            assert "a notice waits for projection sessions for" in warnings
            return float(str(found["lag_s"])) > 0.2

        await eventually_async(is_reported)
        assert (await ask(edge, "/v1/health")).status_code == 200


async def test_work_that_is_done_leaves_no_lag(redis_url: str) -> None:
    """Once a worker and the projections are at it, nothing waits and it is green (SESS-5)."""
    async with behind(redis_url), replica(redis_url, ready_lag_s=2.0) as edge, edge.connect() as client:
        await client.next()

        async def is_green() -> bool:
            found = await readiness(edge)
            return bool(found["ready"]) and float(str(found["lag_s"])) < 2

        await eventually_async(is_green)


async def test_sessions_are_counted_here_and_everywhere(redis_url: str) -> None:
    """The answer counts the sessions of this edge and those of all edges (SESS-5)."""
    async with (
        replica(redis_url, name="one") as one, replica(redis_url, name="two") as two,
        one.connect() as first, two.connect() as second, two.connect() as third,
    ):  # fmt: skip
        for client in (first, second, third):
            await client.next()

        async def counted() -> bool:
            found = await readiness(one)
            return (found["active_sessions"], found["all_active_sessions"]) == (1, 3)

        await eventually_async(counted)


async def test_a_worker_reports_the_age_of_its_last_read(redis_url: str) -> None:
    """A worker's heartbeat says when it last read and looked for claims, which it does all the time (SESS-5)."""
    async with behind(redis_url), replica(redis_url) as edge:

        async def is_reported() -> bool:
            beats = await heartbeats.read_all(edge.core.server)
            [worker] = [one.payload for one in beats if one.role == "worker"]
            return bool(0 <= worker["consumed_age_s"] < 5 and worker["oldest_decision_s"] == 0)

        await eventually_async(is_reported)
    assert len(edge.core.server.keys.partitions) == PARTITIONS


async def test_a_sink_that_went_missing_is_a_warning(edge: Replica) -> None:
    """A sink that never ran is no warning; one that fell silent or fails is a warning, and never more (SESS-5)."""
    await beat(edge, *ALL, consumed_age_s=0.1)
    server = edge.core.server
    await heartbeats.write(server, "projection.kafka", "left in order", {"leaving": True})
    await heartbeats.write(server, "projection.webhooks", "p1", {"failing_s": 31.0})
    long_ago_ms = await server.time_ms() - 20_000
    await server.execute("HSET", heartbeats_key(), "projection.eventbridge died", f"{long_ago_ms} {{}}")
    found = await readiness(edge)
    assert (found["ready"], found["reasons"]) == (True, [])
    assert found["projections"] == {**dict.fromkeys(ALL, 1), "webhooks": 1, "eventbridge": 0}
    assert set(found["warnings"]) == {  # type: ignore[call-overload]
        "forwarding to webhooks has failed for 31 s", "projection eventbridge has had no heartbeat for 15 s",
    }  # fmt: skip
