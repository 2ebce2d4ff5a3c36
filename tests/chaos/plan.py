"""Draws the faults and the clients' behaviour from a seed; the same seed draws the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

EDGE, WORKER, PROJECTOR = "edge", "worker", "projector"

WEIGHTS = {
    "kill edge": 4, "kill worker": 6, "kill projector": 3,
    "halt edge": 2, "halt worker": 5, "halt projector": 2,
    "redis stopped": 2, "redis killed": 2, "redis paused": 2, "redis halted": 2, "power loss": 2,
    "clients cut": 5, "clients stalled": 2, "redis links cut": 4, "redis link stalled": 3,
    "redis clock": 3, "process clock": 2, "poisoned session": 1,
}  # fmt: skip
"""Relative frequencies. Deaths and halts of workers lead, since each moves a claim; faults of the whole deployment
come less often, as they hide all others."""

ROLE_OF = {"edge": EDGE, "worker": WORKER, "projector": PROJECTOR}

JOINED = 0.25
"""Share of faults during which the next one strikes: two at once is where assumptions end."""

HALT_LEASES = (1.2, 2.5)
"""A halt lasts longer than a lease, so that another process holds its claims when it continues."""

HALT_PROJECTOR_S = (0.5, 8.0)
"""Notices that a projection leaves for five seconds are taken over; it may continue with older reads."""

RESTART_S = (0.0, 1.5)
"""Delay of a supervisor's restart."""

CLOCK_LEASES = (-2.0, 3.0)
"""How far a clock steps; a step forward of more than a lease makes every claim look abandoned."""

RATE_HZ = 16_000
POISONED_RATE_HZ = 8_000
SENTENCES = 5
"""Number of bundled recordings."""


class Fault(NamedTuple):
    """One fault."""

    number: int
    kind: str
    target: int
    """Index of its target, modulo the number of candidates."""
    severity: float
    """Its severity from 0 to 1: how long, how far, how many."""
    joined: bool
    """Whether the next one strikes before this one ends."""

    def between(self, bounds: tuple[float, float]) -> float:
        """The value between two bounds at its severity."""
        low, high = bounds
        return low + self.severity * (high - low)


class SessionPlan(NamedTuple):
    """One session of one client."""

    client_number: int
    number: int
    """Index among the client's sessions."""
    lead_samples: int
    """Silence before the first word, so that no two sessions have the same samples."""
    sentences: tuple[int, ...]
    pauses_ms: tuple[int, ...]
    """After each sentence."""
    channels: int
    finalized: tuple[float, ...]
    """Where the client sends `finalize`, as shares of the whole."""
    departures: tuple[float, ...]
    """Where it disconnects by itself and returns, likewise."""


class Scenario(NamedTuple):
    """Everything drawn from one seed."""

    seed: int
    faults: tuple[Fault, ...]

    def sessions(self, client_number: int) -> Iterator[SessionPlan]:
        """Yield the sessions of one client without end."""
        number = 0
        while True:
            yield _session(random.Random(f"{self.seed}/{client_number}/{number}"), client_number, number)
            number += 1


def draw_scenario(seed: int, faults: int, *, without: frozenset[str] = frozenset()) -> Scenario:
    """The script of a seed; `without` names kinds of faults that can't be made here.

    Every kind comes once before any comes twice, if the number of faults allows.
    """
    dice = random.Random(seed)
    kinds = [kind for kind in WEIGHTS if kind not in without]
    first = dice.sample(kinds, k=len(kinds))
    rest = dice.choices(kinds, [WEIGHTS[kind] for kind in kinds], k=faults)
    return Scenario(seed, tuple(
        Fault(number, kind, dice.randrange(1 << 16), dice.random(), dice.random() < JOINED)
        for number, kind in enumerate((first + rest)[:faults])
    ))  # fmt: skip


def _session(dice: random.Random, client_number: int, number: int) -> SessionPlan:
    count = dice.randint(2, 4)
    return SessionPlan(
        client_number=client_number, number=number, lead_samples=dice.randrange(100, 8_000),
        sentences=tuple(dice.randrange(SENTENCES) for _ in range(count)),
        pauses_ms=tuple(dice.randrange(250, 1_600) for _ in range(count)),
        channels=2 if dice.random() < 0.2 else 1,
        finalized=tuple(sorted(dice.random() for _ in range(dice.randint(0, 4)))),
        departures=tuple(sorted(dice.random() for _ in range(dice.randint(0, 2)))),
    )  # fmt: skip
