"""Interleavings that matter, each once, which the simulation would have to find by chance."""

import hashlib
from collections.abc import Iterator

import pytest

from eventlog.redis import redis_log
from eventlog.redis.scripts import Script, script
from tests.simulation.network import Fate, Planned
from tests.simulation.scheduler import Process
from tests.simulation.world import LEASE_MS, World

LEASE_S = LEASE_MS / 1000
SOON_S = 45.0


@pytest.fixture
def world() -> Iterator[World]:
    """A world with one worker, one projector and one session."""
    found = World(7)
    found.start_worker()
    found.start_projector()
    found.speak(6.0)
    yield found
    found.close()


def holder(world: World) -> Process:
    """The worker that holds the session, once one does."""
    member = world.sessions[0].run.member

    def found() -> list[Process]:
        alive = [one for one in world.alive(world.worker_processes) if one in world.workers]
        return [one for one in alive if member in world.workers[one].active_runs]

    assert world.loop.run_until(lambda: bool(found()), SOON_S)
    return found()[0]


@pytest.mark.parametrize("fate", [Fate.FROZEN_BEFORE, Fate.FROZEN_AFTER, Fate.KILLED_BEFORE, Fate.KILLED_AFTER])
def test_a_worker_that_stops_at_its_commit_repeats_nothing(world: World, fate: Fate) -> None:
    """A worker that stops at a commit and continues after a takeover changes no text (SAFE-1)."""
    stopped = holder(world)
    world.network.plan(stopped, Planned(fate, "commit_facts", 30.0))
    world.start_worker()
    world.loop.run_until(lambda: stopped.is_frozen or stopped.is_dead, SOON_S)
    world.settle(SOON_S)
    assert world.monitor.calls["take_over_claims"] > 0


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED, Fate.DOUBLED, Fate.LATE])
def test_a_commit_that_is_not_answered_is_written_once(world: World, fate: Fate) -> None:
    """Each of a run's commits may be lost, unanswered, late or sent twice, the last one too, and is written once."""
    for _ in range(3):
        world.network.plan(holder(world), Planned(fate, "commit_facts", 0.7))
    world.settle(SOON_S)
    assert world.network.happened[fate] == 3


@pytest.mark.parametrize("stall_s", [1.0, LEASE_S, 2.5 * LEASE_S])
def test_a_stall_of_redis_moves_no_live_claim(world: World, stall_s: float) -> None:
    """During a stall of Redis, for a lease and for longer, live workers keep their claims (SAFE-2)."""
    first = holder(world)
    world.start_worker()
    world.loop.run_for(LEASE_S + 0.9)
    world.speak(6.0)
    world.network.stall(stall_s)
    world.loop.run_for(stall_s)
    world.settle(SOON_S)
    assert not first.is_dead
    assert world.monitor.violations == []


@pytest.mark.parametrize("away_s", [1.0, LEASE_S, 2.5 * LEASE_S])
def test_a_restart_of_redis_moves_no_live_claim(world: World, away_s: float) -> None:
    """During an outage of Redis, for a lease and for longer, live workers keep their claims (SAFE-2)."""
    world.start_worker()
    world.loop.run_for(LEASE_S)
    world.speak(6.0)
    world.network.restart(away_s)
    world.loop.run_for(away_s)
    world.settle(SOON_S)


@pytest.mark.parametrize("kind", ["find_abandoned_claims", "take_over_claims"])
def test_a_takeover_that_waits_in_a_stall_takes_no_live_claim(kind: str) -> None:
    """A takeover that Redis executes after a stall, before the renewals, takes no live worker's claim (SAFE-2)."""
    world = World(1)
    for _ in range(8):
        world.speak(30.0)
    for _ in range(3):
        world.start_worker()
    world.start_projector()
    world.loop.run_for(LEASE_S + 3)
    victim = max(world.worker_processes, key=lambda one: len(world.workers[one].active_runs))
    for process in set(world.worker_processes) - {victim}:
        world.network.plan(process, Planned(Fate.STALLED, kind, 2 * LEASE_S))
    victim.kill()
    world.loop.run_for(4 * LEASE_S)
    assert world.network.happened[Fate.STALLED] > 0
    world.check()
    world.close()


def test_poisoned_speech_alone_is_quarantined(world: World) -> None:
    """A session that kills each worker is quarantined after three deaths, its neighbour ends well (SAFE-3)."""
    world.poison()
    world.settle(3 * SOON_S)
    assert world.monitor.quarantined() == world.poisoned
    assert sum(process.is_dead for process in world.worker_processes) == 3


def test_the_same_seed_gives_the_same_history() -> None:
    """The history follows from the seed alone, so that every finding can be repeated."""
    histories = []
    for _ in range(2):
        world = World(11)
        for _ in range(3):
            world.start_worker()
        world.start_projector()
        world.speak()
        world.loop.run_for(2.0)
        world.worker_processes[0].kill()
        world.settle(SOON_S)
        histories.append((world.loop.time(), world.loop.steps, world.monitor.calls))
        world.close()
    assert histories[0] == histories[1]


def test_an_unfenced_commit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check of the claim's token in its script a stopped worker's commit is written and reported."""
    fenced = script("commit_facts")
    text = fenced.text.replace("if not holds(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then", "if false then")
    broken = Script(fenced.name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    monkeypatch.setattr(redis_log, "script", lambda name: broken if name == fenced.name else script(name))
    assert any(reports_a_late_commit(seed, broken) for seed in range(20))


def reports_a_late_commit(seed: int, broken: Script) -> bool:
    """Whether the monitor reports a worker that stops at its commit until another has the claim."""
    world = World(seed, kinds={broken.sha1: broken.name})
    for _ in range(2):
        world.start_worker()
    world.speak(6.0)
    world.network.plan(holder(world), Planned(Fate.FROZEN_BEFORE, "commit_facts", 30.0))
    world.loop.run_for(20.0)
    world.close()
    return any("commits" in violation for violation in world.monitor.violations)
