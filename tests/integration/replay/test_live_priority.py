"""Clients go first: how their wait is measured, and how replays pause."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from eventlog.work import heartbeats
from processor.recognisers import Clip
from processor.recognisers.mock import MockRecogniser
from stenolog.operations.replay.live_priority import CHECK_PERIOD_S, LivePriority, YieldingRecogniser, waiting_s
from stenolog.operations.replay.log_source import LogSource
from tests.integration.replay.replays import QUEUE, RecordedReplay, found
from tests.support.deployment import Deployment
from tests.support.pcm import Story, talk
from tests.support.recognisers import HeldRecogniser
from tests.support.waiting import eventually, eventually_async, lasting

MAX_WAIT_S = 2.0
CLIP = Clip(pcm=bytes(9_600), sample_rate_hz=16_000)


async def report_wait(deployment: Deployment, oldest_decision_s: float) -> None:
    """A worker for clients reports how long its oldest decision waits."""
    await heartbeats.write(deployment.server, "worker", "one", {"oldest_decision_s": oldest_decision_s})


@pytest.fixture
async def gate(single: Deployment) -> LivePriority:
    """A gate in a deployment, which the test alone checks."""
    return LivePriority(single.server, MAX_WAIT_S)


async def test_a_worker_behind_its_decisions_is_a_wait(single: Deployment) -> None:
    """REPLAY-1: clients wait as long as the oldest decision of any of their workers."""
    assert await waiting_s(single.server) == 0
    await report_wait(single, 7.5)
    await heartbeats.write(single.server, "worker", "two", {"oldest_decision_s": 0.1})
    await heartbeats.write(single.server, "replayer", "three", {"oldest_decision_s": 99})
    assert await waiting_s(single.server) == 7.5


async def test_a_session_that_no_worker_takes_is_a_wait(single: Deployment) -> None:
    """REPLAY-1: a session that waits for a worker counts if a living worker could take it."""
    await (await single.claims("worker", 1_000)).ensure_groups()
    await single.open(Story(talk(), sealed=False))
    assert await waiting_s(single.server) == 0
    await report_wait(single, 0.0)

    async def waits() -> bool:
        return await waiting_s(single.server) > 0.05

    await eventually_async(waits)


async def test_a_read_model_that_lags_is_a_wait(single: Deployment) -> None:
    """REPLAY-1: notices that a living projection of read models hasn't taken count; those of a dead one don't."""
    await report_wait(single, 0.0)
    session = await single.open(Story(talk(), sealed=False))
    partition = session.keys.partition
    await single.server.execute("XGROUP", "CREATE", partition.changes, "lists", "0")
    assert await waiting_s(single.server) == 0
    await heartbeats.write(single.server, "projection.lists", "p", {})

    async def waits() -> bool:
        return await waiting_s(single.server) > 0.05

    await eventually_async(waits)


async def test_the_gate_follows_the_wait(single: Deployment, gate: LivePriority) -> None:
    """REPLAY-1: past the bound the gate is shut, below it open, and it is left open at the end."""
    await gate.check()
    assert gate.open.is_set()
    await report_wait(single, MAX_WAIT_S + 1)
    await gate.check()
    assert not gate.open.is_set()
    await report_wait(single, MAX_WAIT_S - 1)
    await gate.check()
    assert gate.open.is_set()
    await report_wait(single, MAX_WAIT_S + 1)
    await gate.start()
    await eventually_async(lambda: not gate.open.is_set())
    await gate.stop()
    await gate.wait()
    assert gate.open.is_set()


async def test_a_bound_of_zero_never_shuts_the_gate(single: Deployment) -> None:
    """REPLAY-1: with a bound of 0 the gate never shuts."""
    await report_wait(single, 99)
    free = LivePriority(single.server, 0)
    await free.start()
    await lasting(CHECK_PERIOD_S / 10)
    assert free.open.is_set()
    await free.stop()


@pytest.mark.parametrize("release", [lambda _, gate: gate.set(), lambda one, _: one.close()])
def test_a_held_recogniser_waits_for_the_gate(release: Callable[[YieldingRecogniser, threading.Event], None]) -> None:
    """REPLAY-1: while the gate is shut no recognition begins; opening it or closing the recogniser releases it."""
    gate = threading.Event()
    inner = HeldRecogniser(is_open=True)
    one = YieldingRecogniser(inner, gate)
    assert (one.name, one.max_batch, one.max_parallel) == (inner.name, inner.max_batch, inner.max_parallel)
    thread = threading.Thread(target=one.recognise, args=([CLIP],))
    thread.start()
    assert not inner.calls
    release(one, gate)
    eventually(lambda: not thread.is_alive())
    assert inner.calls == [[CLIP]]


async def test_a_replay_pauses_while_clients_wait(single: Deployment, gate: LivePriority) -> None:
    """REPLAY-1: behind a shut gate a run is held and nothing is committed; once it opens the run goes to its end."""
    session = await single.spoken(Story(talk()))
    live = await single.started()
    await single.ended(session)
    await live.stop()
    gate.open.clear()
    worker = await single.started(YieldingRecogniser(MockRecogniser(), gate.open), queue=QUEUE)
    watched = RecordedReplay(single)
    command = asyncio.create_task(watched.over(await found([LogSource(single.server)])))
    await eventually_async(lambda: worker._recognition._running)
    run = watched.of(session)
    polls = len(watched.paces)
    await eventually_async(lambda: len(watched.paces) > polls + 1)
    assert await run.finals() == 0
    gate.open.set()
    assert {status for status, _ in (await command).values()} == {"done"}
    assert await run.finals() > 0
