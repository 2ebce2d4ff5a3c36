"""Provisional texts of open utterances: best effort, published, never logged."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from eventlog.log import LogUnavailableError
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from eventlog.redis.server import Server
from processor.active_runs import ActiveRun, ActiveRuns
from processor.facts import published_text
from processor.recognisers import RecogniserError, Recognition
from processor.recognition_queue import Job, RecognitionQueue
from processor.settings import WorkerSettings
from processor.speech import SHORTEST_MS, Utterance

log = logging.getLogger(__name__)

LOOK_S = 0.05
"""Between two rounds of partials: short against the interval, long against the cost of a thousand runs."""


class Partials:
    """Recognises open utterances about once per interval while the recogniser has room, and publishes the texts."""

    def __init__(
        self, server: Server, runs: ActiveRuns, recognition: RecognitionQueue, settings: WorkerSettings
    ) -> None:
        """Publish through `server`."""
        self._server = server
        self._runs = runs
        self._recognition = recognition
        self._interval_s = settings.partial_interval_ms / 1000
        self._per_round = settings.partials_per_s * LOOK_S
        self._allowed = 0.0
        self._texts: list[tuple[str, bytes]] = []

    async def run(self) -> None:
        """Submit and publish until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._submit_due()
            await self._publish()

    def _submit_due(self) -> None:
        now = time.monotonic()
        # A recording's finals reach its open utterance long after.
        due = [run for run in self._runs if run.partial_due_at <= now and not run.is_recorded]
        # The run that waited longest comes first; under load the partials of all runs thin out alike.
        due.sort(key=lambda run: run.partial_due_at)
        # Only a fraction of the rate carries over to the next round: unused room allows no burst.
        self._allowed = self._per_round + self._allowed % 1
        room = min(int(self._allowed), self._recognition.room_for_partials)
        jobs: list[Job] = []
        for run in due:
            if len(jobs) >= room:
                break
            jobs += [
                self._job(run, channel, utterance)
                for channel, utterance in run.timeline.open_utterances()
                if utterance.voiced_ms >= SHORTEST_MS
            ]
            run.partial_due_at = now + self._interval_s
        self._recognition.submit(*jobs)

    def _job(self, run: ActiveRun, channel: int, utterance: Utterance) -> Job:
        rate_hz = run.start.sample_rate_hz
        number, after = run.checkpoint.utterance + run.waiting_utterances, run.last_fact

        def publish(result: Recognition | RecogniserError) -> None:
            # Failed, without text, or of a lost run: best effort means that no partial is published.
            if isinstance(result, RecogniserError) or not result.text or not run.is_held:
                return
            body = {
                "type": "partial",
                "utterance": number,
                "text": published_text(run.start, result),
                "start": round(utterance.start_samples / rate_hz, 3),
                "end": round(utterance.decided_samples / rate_hz, 3),
                "channel": channel,
            }
            keys = run.claim.keys
            message = FeedMessage(FeedKind.PARTIAL, keys.member, str(after), "", msgspec.json.encode(body).decode())
            self._texts.append((keys.partition.feed_channel, encode_message(message)))

        return Job(run.clip(utterance, partial=True), publish, lambda: not run.is_held)

    async def _publish(self) -> None:
        texts, self._texts = self._texts, []
        try:
            await self._server.execute_many([("SPUBLISH", channel, text) for channel, text in texts])
        except LogUnavailableError:
            log.info("partials dropped: log unavailable", extra={"partials": len(texts)})
