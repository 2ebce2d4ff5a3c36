"""What Hypothesis does to a simulated deployment, step by step, and what must hold after each."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation.network import Fate, Planned
from tests.simulation.world import World

WORKERS_MOST = 4
PROJECTORS_MOST = 3
SESSIONS_MOST = 4

SETTLED_WITHIN_S = 45.0
"""Of virtual time, once nothing more happens: the rest of the longest speech, a lease, the calm after it, and both once
more for a suspect that is tried alone."""

WORKER_CALLS = (
    "", "commit_facts", "renew_claims", "load_claimed_run", "take_over_claims", "find_abandoned_claims", "XREADGROUP", "XREAD",
)  # fmt: skip
"""Calls of workers at which something may happen; the first stands for any."""

FENCED_CALLS = ("commit_facts", "renew_claims", "load_claimed_run")
TAKING_CALLS = ("find_abandoned_claims", "take_over_claims")
FREEZING = (Fate.FROZEN_BEFORE, Fate.FROZEN_AFTER)
TAKEN_WITHIN_S = 30.0
"""By then another worker, if there is one, has found a claim that isn't renewed, whatever made it wait."""

PROJECTOR_CALLS = ("", "read_changes", "pull_facts", "apply_projection", "XACK")

number = st.integers(0, 3)
pauses_s = st.sampled_from((0.05, 0.5, 1.8, 4.0, 5.2, 7.0, 12.0))
"""Shorter and longer than a third of a lease, a lease, and two."""
waits_s = st.sampled_from((0.0, 0.02, 0.3, 1.0, 3.0, 6.0))
fates = st.sampled_from(Fate)


class Deployment(RuleBasedStateMachine):
    """Sessions, workers and projections, to which anything may happen that happens to processes and networks."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    @initialize(seed=st.integers(0, 2**32 - 1), workers=st.integers(1, 3))
    def begin(self, seed: int, workers: int) -> None:
        """Some workers, two projection processes and a session; what is left to chance follows from `seed`."""
        self.world = World(seed)
        for _ in range(workers):
            self.world.start_worker()
        for _ in range(2):
            self.world.start_projector()
        self.world.speak()

    @property
    def here(self) -> World:
        """The world, which has begun."""
        assert self.world
        return self.world

    @rule(seconds=waits_s)
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.here.loop.run_for(seconds)

    @precondition(lambda self: len(self.here.sessions) < SESSIONS_MOST)
    @rule(seconds=st.sampled_from((1.0, 3.0, 6.0)), after_s=waits_s)
    def speak(self, seconds: float, after_s: float) -> None:
        """Somebody begins to speak."""
        self.here.speak(seconds)
        self.here.loop.run_for(after_s)

    @precondition(lambda self: not self.here.poisoned_rates)
    @rule(after_s=waits_s)
    def speak_poison(self, after_s: float) -> None:
        """Somebody says what kills every worker that recognises it."""
        self.here.poison()
        self.here.loop.run_for(after_s)

    @precondition(lambda self: len(self.here.alive(self.here.worker_processes)) < WORKERS_MOST)
    @rule(after_s=waits_s)
    def start_worker(self, after_s: float) -> None:
        """One worker more."""
        self.here.start_worker()
        self.here.loop.run_for(after_s)

    @precondition(lambda self: len(self.here.alive(self.here.projectors)) < PROJECTORS_MOST)
    @rule(after_s=waits_s)
    def start_projector(self, after_s: float) -> None:
        """One projection process more."""
        self.here.start_projector()
        self.here.loop.run_for(after_s)

    @rule(which=number, seconds=pauses_s, after_s=waits_s)
    def freeze_worker(self, which: int, seconds: float, after_s: float) -> None:
        """A worker stops as it is, and goes on later."""
        if alive := self.here.alive(self.here.worker_processes):
            alive[which % len(alive)].freeze(seconds)
        self.here.loop.run_for(after_s)

    @rule(which=number, seconds=pauses_s, after_s=waits_s)
    def freeze_projector(self, which: int, seconds: float, after_s: float) -> None:
        """So does a projection process."""
        if alive := self.here.alive(self.here.projectors):
            alive[which % len(alive)].freeze(seconds)
        self.here.loop.run_for(after_s)

    @rule(which=number, after_s=waits_s)
    def kill_worker(self, which: int, after_s: float) -> None:
        """A worker dies where it stands."""
        if alive := self.here.alive(self.here.worker_processes):
            alive[which % len(alive)].kill()
        self.here.loop.run_for(after_s)

    @rule(which=number, after_s=waits_s)
    def stop_worker(self, which: int, after_s: float) -> None:
        """A worker hands over and ends."""
        if alive := self.here.alive(self.here.worker_processes):
            self.here.stop_worker(alive[which % len(alive)])
        self.here.loop.run_for(after_s)

    @rule(which=number, after_s=waits_s)
    def kill_projector(self, which: int, after_s: float) -> None:
        """A projection process dies where it stands."""
        if alive := self.here.alive(self.here.projectors):
            alive[which % len(alive)].kill()
        self.here.loop.run_for(after_s)

    @rule(seconds=pauses_s, after_s=waits_s)
    def stall(self, seconds: float, after_s: float) -> None:
        """Redis does nothing for a time."""
        self.here.network.stall(seconds)
        self.here.loop.run_for(after_s)

    @rule(seconds=pauses_s, after_s=waits_s)
    def restart(self, seconds: float, after_s: float) -> None:
        """Redis is away for a time, and comes back with its data."""
        self.here.network.restart(seconds)
        self.here.loop.run_for(after_s)

    @rule(which=number, kind=st.sampled_from(WORKER_CALLS), fate=fates, seconds=pauses_s, after_s=waits_s)
    def trouble_worker(self, which: int, kind: str, fate: Fate, seconds: float, after_s: float) -> None:
        """Something happens to a worker's next call of a kind."""
        if alive := self.here.alive(self.here.worker_processes):
            self.here.network.plan(alive[which % len(alive)], Planned(fate, kind, seconds))
        self.here.loop.run_for(after_s)

    @rule(which=number, kind=st.sampled_from(FENCED_CALLS), fate=st.sampled_from(FREEZING), after_s=waits_s)
    def freeze_worker_at(self, which: int, kind: str, fate: Fate, after_s: float) -> None:
        """A worker stops at a call that only the holder of a claim may make, until another has taken the claim."""
        self.trouble_worker(which, kind, fate, TAKEN_WITHIN_S, after_s)

    @rule(which=number, kind=st.sampled_from(TAKING_CALLS), seconds=pauses_s, after_s=waits_s)
    def stall_at(self, which: int, kind: str, seconds: float, after_s: float) -> None:
        """Redis stalls right when a worker takes something over."""
        self.trouble_worker(which, kind, Fate.STALLED, seconds, after_s)

    @rule(which=number, kind=st.sampled_from(PROJECTOR_CALLS), fate=fates, seconds=pauses_s, after_s=waits_s)
    def trouble_projector(self, which: int, kind: str, fate: Fate, seconds: float, after_s: float) -> None:
        """Something happens to a projection process's next call of a kind."""
        if alive := self.here.alive(self.here.projectors):
            self.here.network.plan(alive[which % len(alive)], Planned(fate, kind, seconds))
        self.here.loop.run_for(after_s)

    @rule(which=number, fate=st.sampled_from((Fate.LOST, Fate.UNANSWERED, Fate.DOUBLED, Fate.LATE)), after_s=waits_s)
    def trouble_speaker(self, which: int, fate: Fate, after_s: float) -> None:
        """Something happens to a speaker's next append."""
        session = self.here.sessions[which % len(self.here.sessions)]
        self.here.network.plan(session.speaker, Planned(fate, "append_audio", 0.5))
        self.here.loop.run_for(after_s)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """Every invariant holds, at every step so far."""
        if self.world:
            self.world.check()

    def teardown(self) -> None:
        """Once nothing more happens, everything comes to its end."""
        if self.world is None:
            return
        try:
            if not self.world.monitor.troubles:
                self.world.heal()
                self.world.settle(SETTLED_WITHIN_S)
        finally:
            self.world.close()
