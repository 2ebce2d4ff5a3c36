"""The counters of one sink in one process, and the log records of its failures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from projections.forwarding.event_batches import Progress
from projections.forwarding.sink import Outcome, Result

_log = logging.getLogger(__name__)


class SinkStats:
    """One sink's numbers since the process began."""

    def __init__(self, sink: str) -> None:
        """Count for `sink`."""
        self._sink = sink
        self.is_failing = False
        self.forwarded = 0
        self.skipped = 0
        """Events of a sink that is off."""
        self.retried = 0
        """Failures after which an event is tried again."""
        self.dead_lettered = 0
        self.partitions = 0
        self.waiting = 0
        """Runs and dead letters that wait for their next try."""
        self.failing_s = 0.0
        """For how long the event that failed first has been failing."""

    def record_failures(self, progress: Progress, results: Sequence[Result]) -> None:
        """Count a batch's events that were not sent, and log failures as they begin and end."""
        self.skipped += sum(outcome is Outcome.SKIPPED for outcome, _ in results)
        self.retried += progress.retry is not None
        run = progress.batch.keys.member
        for dead_letter in progress.dead_letters:
            self.dead_lettered += bool(dead_letter.kind)
            about = {"sink": self._sink, "run": run, "fact": dead_letter.fact, "reason": dead_letter.reason}
            if dead_letter.kind:
                about |= {"event_id": dead_letter.event_id, "kind": dead_letter.kind}
                about["attempts"] = str(dead_letter.attempts)
            _log.error("event dead-lettered" if dead_letter.kind else "fact dead-lettered", extra=about)
        if progress.retry is not None and not self.is_failing:
            self.is_failing = True
            # Once, not for each event: an outage of an hour is one failure, and its events are counted.
            reason = next((reason for outcome, reason in results if outcome is Outcome.RETRY), "")
            about = {"sink": self._sink, "run": run, "event_id": progress.retry.event_id, "reason": reason}
            _log.warning("sink failing; retrying", extra=about)
        elif progress.sent and self.is_failing:
            self.is_failing = False
            _log.info("sink recovered", extra={"sink": self._sink})

    def payload(self) -> dict[str, Any]:
        """The content of its heartbeats."""
        return {
            "forwarded": self.forwarded, "retried": self.retried, "dead_lettered": self.dead_lettered,
            "partitions": self.partitions, "waiting": self.waiting, "failing_s": round(self.failing_s, 1),
        }  # fmt: skip
