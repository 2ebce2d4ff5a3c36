"""What a worker counts and measures for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

from eventlog.log import Code
from eventlog.telemetry.metering import Reading

if TYPE_CHECKING:
    from processor.active_runs import ActiveRuns
    from processor.audio_reader import Reader
    from processor.decoding.decoder_pool import DecoderPool
    from processor.recognition_queue import RecognitionQueue
    from processor.sharing.sharer import Sharer

RECOGNITION_BUCKETS_S = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0)
"""From the mock to a minute of speech on one slow core."""

COMMIT_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Round trips of many commits each."""

FINAL_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""What a person waits for: below a second reads as live."""


class WorkerMetrics:
    """One worker's counters and histograms."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Count in `registry`, or for nobody."""
        registry = registry or CollectorRegistry()
        self._recognition = Histogram(
            "stenolog_worker_recognition_duration_seconds", "Recogniser calls, each of a batch of clips.",
            ["engine", "kind"], buckets=RECOGNITION_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self.commit_s = Histogram(
            "stenolog_worker_commit_duration_seconds", "Round trips that commit facts.",
            buckets=COMMIT_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._final = Histogram(
            "stenolog_worker_final_latency_seconds", "From the decision that an utterance has ended to its final in the log.",
            buckets=FINAL_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._commits = Counter(
            "stenolog_worker_commits", "Commits by the log's answer.", ["code"], registry=registry
        )
        self.takeovers = Counter(
            "stenolog_worker_takeovers", "Runs taken over from workers that fell silent.", registry=registry
        )
        self.suspicions = Counter(
            "stenolog_worker_suspicions", "Runs tried alone since they kept killing workers.", registry=registry
        )
        self.quarantined = Counter(
            "stenolog_worker_quarantined", "Runs set aside: they can't be processed.", registry=registry
        )
        self.lost = Counter(
            "stenolog_worker_claims_lost", "Runs let go since another worker has their claim.", registry=registry
        )
        self.offered = Counter(
            "stenolog_worker_shared_utterances_offered", "Utterances of recordings that other workers were offered.",
            registry=registry,
        )  # fmt: skip
        self.taken = Counter(
            "stenolog_worker_shared_utterances_taken", "Utterances taken from other workers.", registry=registry
        )
        self.recognised_for_others = Counter(
            "stenolog_worker_shared_utterances_recognised", "Of those, the ones recognised.", registry=registry
        )
        for code in (Code.OK, Code.LOST, Code.STALE, Code.UNKNOWN):  # a rate needs the zero before the first
            self._commits.labels(code.name.lower())

    def recognised(self, engine: str, *, partial: bool, seconds: float) -> None:
        """Note a recogniser call."""
        self._recognition.labels(engine, "partial" if partial else "final").observe(seconds)

    def committed(self, code: Code) -> None:
        """Note the log's answer to a commit."""
        self._commits.labels(code.name.lower()).inc()

    def finals(self, decided: list[float]) -> None:
        """Note utterances that are in the log now, by when they were decided on the monotonic clock."""
        now = time.monotonic()
        for at in decided:
            self._final.observe(now - at)


class WorkerCollector:
    """What is looked at when somebody asks; perhaps from another thread, so only copies are walked over."""

    def __init__(
        self, holdings: ActiveRuns, recognition: RecognitionQueue, reader: Reader, decoders: DecoderPool, *,
        sharing: Sharer | None, most_waiting: int,
    ) -> None:  # fmt: skip
        """Look at these; the reader leaves a run alone while `most_waiting` of its utterances wait."""
        self._holdings = holdings
        self._recognition = recognition
        self._reader = reader
        self._decoders = decoders
        self._sharing = sharing
        self._most_waiting = most_waiting

    def __call__(self) -> Iterator[Reading]:
        """All of it, now."""
        runs = list(self._holdings)
        now = time.monotonic()
        oldest = min((run.waits_since for run in runs), default=now)
        yield Reading("gauge", "stenolog_worker_runs", "Runs held.", len(runs))
        yield Reading("gauge", "stenolog_worker_decoders", "Decoder processes at work.", self._decoders.children)
        yield Reading("gauge", "stenolog_worker_capacity", "Runs that may be held.", self._holdings.capacity)
        yield Reading(
            "gauge", "stenolog_worker_pending_utterances", "Finals that wait for a free recogniser.",
            self._recognition.waiting,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_worker_shared_utterances_pending", "Utterances of recordings that are with other workers.",
            self._sharing.offering.waiting if self._sharing else 0,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_worker_oldest_decision_seconds", "Age of the oldest decision that is not committed.",
            max(0.0, now - oldest),
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_worker_uncommitted_audio_seconds",
            "Audio read past the last committed boundary, of the run that has most: an open utterance's, usually.",
            max((run.uncommitted_s for run in runs), default=0.0),
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_worker_throttled_runs", "Runs not read on, since their utterances wait.",
            sum(run.waiting_utterances >= self._most_waiting for run in runs),
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_worker_segmenting_seconds", "Time spent on detecting and cutting speech.",
            self._reader.segmenting_s,
        )  # fmt: skip
