"""What will happen, drawn from a seed: the faults, and what the clients say and do; the same seed draws the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

EDGE, WORKER, PROJECTOR = "edge", "worker", "projector"

WEIGHTS = {
    "kill edge": 4, "kill worker": 6, "kill project": 3,
    "halt edge": 2, "halt worker": 5, "halt project": 2,
    "redis stopped": 2, "redis killed": 2, "redis paused": 2, "redis halted": 2, "power loss": 2,
    "clients cut": 5, "clients stalled": 2, "redis links cut": 4, "redis link stalled": 3,
    "redis clock": 3, "process clock": 2, "poisoned session": 1,
}  # fmt: skip
"""How often each is drawn. Deaths and halts of workers lead, since a claim has to move; whatever the whole deployment
feels comes less often, or nothing else would be seen."""

ROLE_OF = {"edge": EDGE, "worker": WORKER, "projector": PROJECTOR}

JOINED = 0.25
"""Share of faults that strike while the one before is not over yet: two at once is where assumptions end."""

HALT_LEASES = (1.2, 2.5)
"""A halt lasts longer than a lease, so that what the process held is somebody else's when it goes on."""

HALT_PROJECT_S = (0.5, 8.0)
"""Notices that a projection leaves for five seconds are taken over; it may go on with what it had read before."""

RESTART_S = (0.0, 1.5)
"""A supervisor takes from no time to some seconds."""

CLOCK_LEASES = (-2.0, 3.0)
"""How far a clock steps; forward by more than a lease makes every claim look abandoned."""

RATE_HZ = 16_000
POISONED_RATE_HZ = 8_000
SENTENCES = 5
"""So many recordings are bundled."""


class Fault(NamedTuple):
    """One fault."""

    number: int
    kind: str
    victim: int
    """Which of those that it may strike, modulo their number."""
    share: float
    """From 0 to 1: how much of what it may be (how long, how far, how many)."""
    joined: bool
    """The next one strikes while this one is not over."""

    def between(self, bounds: tuple[float, float]) -> float:
        """The value at its share of the way between two bounds."""
        low, high = bounds
        return low + self.share * (high - low)


class Speech(NamedTuple):
    """One client's session."""

    seat: int
    number: int
    """Which session of its seat."""
    lead_samples: int
    """Silence before the first word, so that no two sessions have the same samples."""
    sentences: tuple[int, ...]
    pauses_ms: tuple[int, ...]
    """After each sentence."""
    channels: int
    finalized: tuple[float, ...]
    """Where the client asks for a boundary, as shares of the whole."""
    departures: tuple[float, ...]
    """Where it goes away by itself and comes back, likewise."""


class Script(NamedTuple):
    """All that is drawn from one seed."""

    seed: int
    faults: tuple[Fault, ...]

    def speeches(self, seat: int) -> Iterator[Speech]:
        """What the client on this seat says, one session after the other, without end."""
        number = 0
        while True:
            yield _speech(random.Random(f"{self.seed}/{seat}/{number}"), seat, number)
            number += 1


def drawn(seed: int, faults: int, *, without: frozenset[str] = frozenset()) -> Script:
    """The script of a seed; `without` names kinds of faults that can't be made here.

    Every kind comes before any comes twice, as far as there are enough faults.
    """
    dice = random.Random(seed)
    kinds = [kind for kind in WEIGHTS if kind not in without]
    first = dice.sample(kinds, k=len(kinds))
    rest = dice.choices(kinds, [WEIGHTS[kind] for kind in kinds], k=faults)
    return Script(seed, tuple(
        Fault(number, kind, dice.randrange(1 << 16), dice.random(), dice.random() < JOINED)
        for number, kind in enumerate((first + rest)[:faults])
    ))  # fmt: skip


def _speech(dice: random.Random, seat: int, number: int) -> Speech:
    count = dice.randint(2, 4)
    return Speech(
        seat=seat, number=number, lead_samples=dice.randrange(100, 8_000),
        sentences=tuple(dice.randrange(SENTENCES) for _ in range(count)),
        pauses_ms=tuple(dice.randrange(250, 1_600) for _ in range(count)),
        channels=2 if dice.random() < 0.2 else 1,
        finalized=tuple(sorted(dice.random() for _ in range(dice.randint(0, 4)))),
        departures=tuple(sorted(dice.random() for _ in range(dice.randint(0, 2)))),
    )  # fmt: skip
