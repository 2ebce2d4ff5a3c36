"""A worker's instruments for Prometheus: counters and histograms."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Histogram

from eventlog.log import Code

RECOGNITION_BUCKETS_S = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0)
"""From the mock to a minute of speech on one slow core."""

COMMIT_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Round trips of many commits each."""

FINAL_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""A reader's wait for captions: below a second they seem live."""


class WorkerMetrics:
    """One worker's counters and histograms."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register with `registry`, or with one that no endpoint exposes."""
        registry = registry or CollectorRegistry()
        self._recognition = Histogram(
            "stenolog_worker_recognition_duration_seconds", "Recogniser calls, each of a batch of clips.",
            ["engine", "kind"], buckets=RECOGNITION_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self.commit_s = Histogram(
            "stenolog_worker_commit_duration_seconds", "Round trips that commit facts.",
            buckets=COMMIT_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._final_latency = Histogram(
            "stenolog_worker_final_latency_seconds",
            "From the decision that an utterance has ended to its final in the log.",
            buckets=FINAL_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._early_finals = Counter(
            "stenolog_worker_early_finals",
            "Utterances recognised while a pause ran; of these, those that a final used, and those that continued.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self._commits = Counter(
            "stenolog_worker_commits", "Commits by the log's answer.", ["code"], registry=registry
        )
        self.takeovers = Counter(
            "stenolog_worker_takeovers", "Runs taken over from workers that fell silent.", registry=registry
        )
        self.suspicions = Counter(
            "stenolog_worker_suspicions", "Runs tried in a process of their own, since they kept killing workers.",
            registry=registry,
        )  # fmt: skip
        self.quarantined = Counter(
            "stenolog_worker_quarantined", "Runs quarantined, since they cannot be processed.", registry=registry
        )
        self.claims_lost = Counter(
            "stenolog_worker_claims_lost", "Runs dropped, since another worker has their claim.", registry=registry
        )
        self.offered = Counter(
            "stenolog_worker_shared_utterances_offered", "Utterances of recordings offered to other workers.",
            registry=registry,
        )  # fmt: skip
        self.taken = Counter(
            "stenolog_worker_shared_utterances_taken", "Utterances taken from other workers.", registry=registry
        )
        self.recognised_for_others = Counter(
            "stenolog_worker_shared_utterances_recognised", "Of those, the ones recognised.", registry=registry
        )
        for outcome in ("recognised", "used", "wasted"):
            self._early_finals.labels(outcome)
        for code in (Code.OK, Code.LOST, Code.STALE, Code.UNKNOWN):  # a rate needs the zero before the first
            self._commits.labels(code.name.lower())

    def observe_recognition(self, engine: str, *, partial: bool, seconds: float) -> None:
        """Record a recogniser call."""
        self._recognition.labels(engine, "partial" if partial else "final").observe(seconds)

    def count_early_final(self, outcome: str) -> None:
        """Count an utterance recognised early: ``recognised``, then ``used`` or ``wasted``."""
        self._early_finals.labels(outcome).inc()

    def count_commit(self, code: Code) -> None:
        """Count the log's answer to a commit."""
        self._commits.labels(code.name.lower()).inc()

    def observe_finals(self, decided_at: list[float]) -> None:
        """Record the latency of finals that are in the log now, by the monotonic times of their decisions."""
        now = time.monotonic()
        for at in decided_at:
            self._final_latency.observe(now - at)
