"""The steps that Hypothesis takes in a simulated deployment, and the invariants after each."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation.network import Fate, Planned
from tests.simulation.world import World

WORKERS_MOST = 4
PROJECTORS_MOST = 3
SESSIONS_MOST = 4

SETTLED_WITHIN_S = 45.0
"""Virtual time after the last fault: the rest of the longest speech, a lease, the calm after it, and both once
more for a quarantine trial."""

WORKER_CALLS = (
    "", "commit_facts", "renew_claims", "load_claimed_run", "take_over_claims", "find_abandoned_claims", "XREADGROUP",
    "XREAD",
)  # fmt: skip
"""Calls of workers that a fault may strike; the first stands for any."""

FENCED_CALLS = ("commit_facts", "renew_claims", "load_claimed_run")
TAKING_CALLS = ("find_abandoned_claims", "take_over_claims")
FREEZING = (Fate.FROZEN_BEFORE, Fate.FROZEN_AFTER)
TAKEN_WITHIN_S = 30.0
"""Another live worker finds an unrenewed claim within this, after any delay."""

PROJECTOR_CALLS = ("", "read_changes", "pull_facts", "apply_projection", "XACK")

number = st.integers(0, 3)
pauses_s = st.sampled_from((0.05, 0.5, 1.8, 4.0, 5.2, 7.0, 12.0))
"""Shorter and longer than a third of a lease, a lease, and two."""
waits_s = st.sampled_from((0.0, 0.02, 0.3, 1.0, 3.0, 6.0))
fates = st.sampled_from(Fate)


class Deployment(RuleBasedStateMachine):
    """Sessions, workers and projections under every fault of processes and networks."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    @initialize(seed=st.integers(0, 2**32 - 1), workers=st.integers(1, 3))
    def begin(self, seed: int, workers: int) -> None:
        """Start workers, two projectors and a session; all chance follows from `seed`."""
        self.world = World(seed)
        for _ in range(workers):
            self.world.start_worker()
        for _ in range(2):
            self.world.start_projector()
        self.world.speak()

    @property
    def running(self) -> World:
        """The started world."""
        assert self.world
        return self.world

    @rule(seconds=waits_s)
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.running.loop.run_for(seconds)

    @precondition(lambda self: len(self.running.sessions) < SESSIONS_MOST)
    @rule(seconds=st.sampled_from((1.0, 3.0, 6.0)), after_s=waits_s)
    def speak(self, seconds: float, after_s: float) -> None:
        """Open a session that speaks."""
        self.running.speak(seconds)
        self.running.loop.run_for(after_s)

    @precondition(lambda self: not self.running.poisoned_rates)
    @rule(after_s=waits_s)
    def speak_poison(self, after_s: float) -> None:
        """Open a session that kills every worker that recognises it."""
        self.running.poison()
        self.running.loop.run_for(after_s)

    @precondition(lambda self: len(self.running.alive(self.running.worker_processes)) < WORKERS_MOST)
    @rule(after_s=waits_s)
    def start_worker(self, after_s: float) -> None:
        """Start one more worker."""
        self.running.start_worker()
        self.running.loop.run_for(after_s)

    @precondition(lambda self: len(self.running.alive(self.running.projectors)) < PROJECTORS_MOST)
    @rule(after_s=waits_s)
    def start_projector(self, after_s: float) -> None:
        """Start one more projector."""
        self.running.start_projector()
        self.running.loop.run_for(after_s)

    @rule(which=number, seconds=pauses_s, after_s=waits_s)
    def freeze_worker(self, which: int, seconds: float, after_s: float) -> None:
        """Freeze a worker for a time."""
        if alive := self.running.alive(self.running.worker_processes):
            alive[which % len(alive)].freeze(seconds)
        self.running.loop.run_for(after_s)

    @rule(which=number, seconds=pauses_s, after_s=waits_s)
    def freeze_projector(self, which: int, seconds: float, after_s: float) -> None:
        """Freeze a projector for a time."""
        if alive := self.running.alive(self.running.projectors):
            alive[which % len(alive)].freeze(seconds)
        self.running.loop.run_for(after_s)

    @rule(which=number, after_s=waits_s)
    def kill_worker(self, which: int, after_s: float) -> None:
        """Kill a worker at any point."""
        if alive := self.running.alive(self.running.worker_processes):
            alive[which % len(alive)].kill()
        self.running.loop.run_for(after_s)

    @rule(which=number, after_s=waits_s)
    def stop_worker(self, which: int, after_s: float) -> None:
        """Stop a worker, which hands over."""
        if alive := self.running.alive(self.running.worker_processes):
            self.running.stop_worker(alive[which % len(alive)])
        self.running.loop.run_for(after_s)

    @rule(which=number, after_s=waits_s)
    def kill_projector(self, which: int, after_s: float) -> None:
        """Kill a projector at any point."""
        if alive := self.running.alive(self.running.projectors):
            alive[which % len(alive)].kill()
        self.running.loop.run_for(after_s)

    @rule(seconds=pauses_s, after_s=waits_s)
    def stall(self, seconds: float, after_s: float) -> None:
        """Stall Redis for a time."""
        self.running.network.stall(seconds)
        self.running.loop.run_for(after_s)

    @rule(seconds=pauses_s, after_s=waits_s)
    def restart(self, seconds: float, after_s: float) -> None:
        """Stop Redis for a time; it returns with its data."""
        self.running.network.restart(seconds)
        self.running.loop.run_for(after_s)

    @rule(which=number, kind=st.sampled_from(WORKER_CALLS), fate=fates, seconds=pauses_s, after_s=waits_s)
    def disturb_worker_call(self, which: int, kind: str, fate: Fate, seconds: float, after_s: float) -> None:
        """Give a worker's next call of a kind a fate."""
        if alive := self.running.alive(self.running.worker_processes):
            self.running.network.plan(alive[which % len(alive)], Planned(fate, kind, seconds))
        self.running.loop.run_for(after_s)

    @rule(which=number, kind=st.sampled_from(FENCED_CALLS), fate=st.sampled_from(FREEZING), after_s=waits_s)
    def freeze_worker_at(self, which: int, kind: str, fate: Fate, after_s: float) -> None:
        """Freeze a worker at a call that only a claim's holder may make, until another has taken over."""
        self.disturb_worker_call(which, kind, fate, TAKEN_WITHIN_S, after_s)

    @rule(which=number, kind=st.sampled_from(TAKING_CALLS), seconds=pauses_s, after_s=waits_s)
    def stall_at(self, which: int, kind: str, seconds: float, after_s: float) -> None:
        """Stall Redis when a worker takes over."""
        self.disturb_worker_call(which, kind, Fate.STALLED, seconds, after_s)

    @rule(which=number, kind=st.sampled_from(PROJECTOR_CALLS), fate=fates, seconds=pauses_s, after_s=waits_s)
    def disturb_projector_call(self, which: int, kind: str, fate: Fate, seconds: float, after_s: float) -> None:
        """Give a projector's next call of a kind a fate."""
        if alive := self.running.alive(self.running.projectors):
            self.running.network.plan(alive[which % len(alive)], Planned(fate, kind, seconds))
        self.running.loop.run_for(after_s)

    @rule(which=number, fate=st.sampled_from((Fate.LOST, Fate.UNANSWERED, Fate.DOUBLED, Fate.LATE)), after_s=waits_s)
    def disturb_speaker(self, which: int, fate: Fate, after_s: float) -> None:
        """Something happens to a speaker's next append."""
        session = self.running.sessions[which % len(self.running.sessions)]
        self.running.network.plan(session.speaker, Planned(fate, "append_audio", 0.5))
        self.running.loop.run_for(after_s)

    @invariant()
    def invariants_hold(self) -> None:
        """Check that every invariant held at every step so far."""
        if self.world:
            self.world.check()

    def teardown(self) -> None:
        """End all faults, and let every session end."""
        if self.world is None:
            return
        try:
            if not self.world.monitor.violations:
                self.world.heal()
                self.world.settle(SETTLED_WITHIN_S)
        finally:
            self.world.close()
