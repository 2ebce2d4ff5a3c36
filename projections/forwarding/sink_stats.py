"""What a forwarder counts, and says of itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from projections.forwarding.event_batches import Lane, Settled
from projections.forwarding.sink import Outcome, Verdict

_log = logging.getLogger(__name__)


class SinkStats:
    """One sink's numbers since the process began."""

    def __init__(self, sink: str) -> None:
        """Count for `sink`."""
        self._sink = sink
        self._is_failing = False
        self.forwarded = 0
        self.passed_over = 0
        """Events that nobody wanted, since the sink is off."""
        self.retried = 0
        """Failures after which an event is tried again."""
        self.dead_lettered = 0
        self.partitions = 0
        self.waiting = 0
        """Runs and letters that wait for their next try."""
        self.failing_s = 0.0
        """For how long the event that failed first has been failing."""

    def stands(self, *, partitions: int, waiting: int, failing_s: float) -> None:
        """Note how the forwarder stands now."""
        self.partitions, self.waiting, self.failing_s = partitions, waiting, failing_s

    def add(self, lane: Lane, settled: Settled, verdicts: Sequence[Verdict]) -> None:
        """Count what a call led to, and tell of troubles as they begin and end."""
        self.forwarded += settled.forwarded
        self.passed_over += sum(verdict.outcome is Outcome.OFF for verdict in verdicts)
        self.retried += settled.failure is not None
        self.dead_lettered += len(settled.refusals)
        for refusal in settled.refusals:
            _log.error(
                "event set aside",
                extra={
                    "sink": self._sink, "run": lane.keys.member, "event_id": refusal.event_id, "kind": refusal.kind,
                    "attempts": refusal.attempts, "reason": refusal.reason,
                },
            )  # fmt: skip
        if settled.failure is not None and not self._is_failing:
            self._is_failing = True
            # Once, not for each event: an outage of an hour is one trouble, and its events are counted.
            reason = next((one.reason for one in verdicts if one.outcome is Outcome.LATER), "")
            _log.warning(
                "sink fails, trying again",
                extra={
                    "sink": self._sink, "run": lane.keys.member, "event_id": settled.failure.event_id,
                    "reason": reason,
                },
            )  # fmt: skip
        elif settled.forwarded and self._is_failing:
            self._is_failing = False
            _log.info("sink takes events again", extra={"sink": self._sink})

    def payload(self) -> dict[str, Any]:
        """What its heartbeats say."""
        return {
            "forwarded": self.forwarded, "retried": self.retried, "dead_lettered": self.dead_lettered,
            "partitions": self.partitions, "waiting": self.waiting, "failing_s": round(self.failing_s, 1),
        }  # fmt: skip
