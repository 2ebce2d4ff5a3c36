"""A circuit breaker per receiver: it stops requests to one that fails, and probes it later. Pure but for its clock."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable

FAILURE_THRESHOLD = 3
"""Failures in a row that open a circuit: a single error of one event must not keep others back."""

FIRST_OPEN_S = 1.0
"""A restart of a receiver takes about as long; then twice as long each time."""

LONGEST_OPEN_S = 60.0
"""A receiver that is back waits little longer than a minute for its events."""

MOST_CIRCUITS = 10_000
"""Failing receivers in memory: some 200 bytes each."""


class _Circuit:
    """A receiver that has failed; one without a circuit is closed."""

    def __init__(self, now: float) -> None:
        self.failures = 0
        self.failing_since = now
        self.open_until = now
        self.is_probing = False
        self.reason = ""

    @property
    def is_open(self) -> bool:
        return self.failures >= FAILURE_THRESHOLD


class CircuitBreaker:
    """The circuits of all receivers.

    An open circuit costs nothing: no request, no time-out that others wait for. When its time is over it is half-open:
    a single request probes the receiver, and only when that succeeds does the circuit close for the others.
    """

    def __init__(self, now: Callable[[], float], draw: Callable[[], float] = random.random) -> None:
        """Go by the clock `now`, in seconds; `draw`, from 0 to 1, spreads the probes of several processes."""
        self._now = now
        self._draw = draw
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()

    def allows_request(self, receiver: str) -> bool:
        """Whether a request may be made now; `record_success`, `record_failure` or `release` must follow if it is."""
        circuit = self._circuits.get(receiver)
        if circuit is None or not circuit.is_open:
            return True
        if circuit.is_probing or self._now() < circuit.open_until:
            return False
        circuit.is_probing = True
        return True

    def reason(self, receiver: str) -> str:
        """The last failure of a receiver; empty if it has none."""
        circuit = self._circuits.get(receiver)
        return "" if circuit is None else circuit.reason

    def failing_s(self, receiver: str) -> float:
        """For how long it has been failing; 0 if it isn't."""
        circuit = self._circuits.get(receiver)
        return 0.0 if circuit is None else self._now() - circuit.failing_since

    def record_success(self, receiver: str) -> None:
        """Close the circuit: the receiver answered, whatever its answer for that one event."""
        self._circuits.pop(receiver, None)

    def release(self, receiver: str) -> None:
        """End a probe that was neither a success nor a failure, so that another request can probe."""
        if receiver in self._circuits:
            self._circuits[receiver].is_probing = False

    def record_failure(self, receiver: str, reason: str, retry_after_s: float | None = None) -> bool:
        """Count a failure, and open the circuit at the threshold; whether that opened it.

        Args:
            receiver: The receiver that failed.
            reason: Why.
            retry_after_s: The pause that the receiver asked for, if it did: that opens the circuit at once.
        """
        circuit = self._circuits.setdefault(receiver, _Circuit(self._now()))
        self._circuits.move_to_end(receiver)
        was_open = circuit.is_open
        if was_open and not circuit.is_probing and self._now() < circuit.open_until and not retry_after_s:
            return False  # one of several that were under way together: they are one failure
        circuit.failures = max(circuit.failures + 1, FAILURE_THRESHOLD if retry_after_s else 0)
        circuit.is_probing = False
        circuit.reason = reason
        doubled_s = FIRST_OPEN_S * 2.0 ** min(circuit.failures - FAILURE_THRESHOLD, 16)
        pause_s = min(LONGEST_OPEN_S, doubled_s) * (0.5 + self._draw() / 2)
        circuit.open_until = max(circuit.open_until, self._now() + max(pause_s, retry_after_s or 0.0))
        while len(self._circuits) > MOST_CIRCUITS:
            self._circuits.popitem(last=False)
        return circuit.is_open and not was_open
