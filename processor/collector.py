"""A worker's gauges for Prometheus, read at each scrape."""

from __future__ import annotations

import time
from collections.abc import Iterator

from eventlog.telemetry.metering import Reading
from processor.active_runs import ActiveRuns
from processor.audio_reader import AudioReader
from processor.decoding.decoder_pool import DecoderPool
from processor.recognition_queue import RecognitionQueue
from processor.sharing.sharer import Sharer


class WorkerCollector:
    """Reads the worker's state at a scrape, perhaps from another thread, so it iterates over copies only."""

    def __init__(
        self, runs: ActiveRuns, recognition: RecognitionQueue, reader: AudioReader, decoders: DecoderPool, *,
        sharer: Sharer | None, max_pending_utterances: int,
    ) -> None:  # fmt: skip
        """Read these; the reader throttles a run while `max_pending_utterances` of its utterances wait."""
        self._runs = runs
        self._recognition = recognition
        self._reader = reader
        self._decoders = decoders
        self._sharer = sharer
        self._max_pending_utterances = max_pending_utterances

    def __call__(self) -> Iterator[Reading]:
        """Every gauge's value now."""
        runs = list(self._runs)
        now = time.monotonic()
        oldest = min((run.waits_since for run in runs), default=now)
        yield Reading("gauge", "stenolog_worker_runs", "Runs held.", len(runs))
        yield Reading("gauge", "stenolog_worker_decoders", "Decoder processes at work.", self._decoders.child_count)
        yield Reading("gauge", "stenolog_worker_capacity", "Runs that may be held.", self._runs.capacity)
        yield Reading(
            "gauge", "stenolog_worker_pending_utterances", "Finals that wait for a free recogniser.",
            self._recognition.waiting,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_worker_shared_utterances_pending",
            "Utterances of recordings that are with other workers.",
            self._sharer.offered_utterances if self._sharer else 0,
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
            sum(run.waiting_utterances >= self._max_pending_utterances for run in runs),
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_worker_segmenting_seconds", "Time spent on detecting and cutting speech.",
            self._reader.segmenting_s,
        )  # fmt: skip
