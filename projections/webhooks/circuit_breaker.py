"""When a receiver that fails is left alone, and when it is tried again. Pure but for the clock that it is given."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable

FAILURES_BEFORE_REST = 3
"""In a row: an odd error of one event must not keep others back."""

FIRST_REST_S = 1.0
"""A restart of a receiver takes about as long; then twice as long each time."""

LONGEST_REST_S = 60.0
"""Nobody waits much longer than a minute after a receiver is back."""

MOST_KEPT = 10_000
"""Failing receivers that are remembered: some 200 bytes each."""


class _State:
    def __init__(self, now: float) -> None:
        self.failures = 0
        self.since = now
        self.until = now
        self.trying = False
        self.reason = ""


class CircuitBreaker:
    """Which receivers rest.

    One that rests costs nothing: no request, no time-out that others wait for. When its rest is over a single request
    tries it, and only when that succeeds do others follow.
    """

    def __init__(self, now: Callable[[], float], chance: Callable[[], float] = random.random) -> None:
        """Go by the clock `now`, in seconds; `chance` spreads the tries of several processes."""
        self._now = now
        self._chance = chance
        self._states: OrderedDict[str, _State] = OrderedDict()

    def reason(self, receiver: str) -> str | None:
        """Why it isn't asked now; None if it may be, and then either `succeeded`, `failed` or `untried` must follow."""
        state = self._states.get(receiver)
        if state is None or state.failures < FAILURES_BEFORE_REST:
            return None
        if state.trying or self._now() < state.until:
            return state.reason
        state.trying = True
        return None

    def failing_s(self, receiver: str) -> float:
        """For how long it has been failing; 0 if it isn't."""
        state = self._states.get(receiver)
        return 0.0 if state is None else self._now() - state.since

    def succeeded(self, receiver: str) -> None:
        """It answered, whatever it said of that one event."""
        self._states.pop(receiver, None)

    def untried(self, receiver: str) -> None:
        """Nothing was learnt."""
        if receiver in self._states:
            self._states[receiver].trying = False

    def failed(self, receiver: str, reason: str, rest_s: float | None = None) -> bool:
        """It failed; `rest_s`: for how long it asked to be left alone. Whether it begins to rest now."""
        state = self._states.setdefault(receiver, _State(self._now()))
        self._states.move_to_end(receiver)
        was_resting = state.failures >= FAILURES_BEFORE_REST
        if was_resting and not state.trying and self._now() < state.until and not rest_s:
            return False  # one of several that were under way together: they are one failure
        state.failures = max(state.failures + 1, FAILURES_BEFORE_REST if rest_s else 0)
        state.trying = False
        state.reason = reason
        doubled = FIRST_REST_S * 2.0 ** min(state.failures - FAILURES_BEFORE_REST, 16)
        pause_s = min(LONGEST_REST_S, doubled) * (0.5 + self._chance() / 2)
        state.until = max(state.until, self._now() + max(pause_s, rest_s or 0.0))
        while len(self._states) > MOST_KEPT:
            self._states.popitem(last=False)
        return state.failures >= FAILURES_BEFORE_REST and not was_resting
