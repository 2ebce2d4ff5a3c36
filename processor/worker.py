"""A worker: claims runs, reads their audio, recognises, commits. Any number may run; any may die at any time."""

from __future__ import annotations

import logging
import time

import msgspec

from eventlog.log import LogUnavailableError
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server
from eventlog.redis.wakeups import Wakeups
from eventlog.service import ServiceTasks, periodically
from eventlog.work.abilities import FIELD as ABILITIES
from eventlog.work.abilities import abilities_of
from eventlog.work.claims import Claims
from eventlog.work.heartbeats import process_name
from eventlog.work.heartbeats import write as write_heartbeat
from eventlog.work.shared_recognition import SharedRecognition
from eventlog.work.uploads import RESTARTS, Uploads
from processor.active_runs import ActiveRun, ActiveRuns
from processor.audio_reader import AudioReader
from processor.claim_keeper import ClaimKeeper
from processor.collector import WorkerCollector
from processor.committer import Committer
from processor.decoding.decoder_pool import DecoderPool
from processor.early_finals import EarlyFinals
from processor.early_trimmer import EarlyTrimmer
from processor.janitor import Janitor
from processor.metrics import WorkerMetrics
from processor.misfits import Misfits
from processor.partials import Partials
from processor.provisional_answers import ProvisionalAnswers
from processor.quarantine import Quarantine, QuarantineTrial
from processor.recognisers import Recogniser
from processor.recognition_queue import RecognitionQueue
from processor.settings import WorkerSettings
from processor.sharing.sharer import Sharer
from processor.speech_events import SpeechEvents

log = logging.getLogger(__name__)

HEARTBEAT_S = 3.0
"""Readiness turns red after 15 s of silence; a few lost heartbeats must not cause that."""


class Worker:
    """The service of one worker process; see `eventlog.service.Service`."""

    def __init__(
        self, server: Server, settings: WorkerSettings, recogniser: Recogniser, *, trial: QuarantineTrial,
        consumer: str | None = None,
    ) -> None:  # fmt: skip
        """Work for the deployment in `server`; `trial` tries a suspected run in a process of its own.

        The caller closes `server` and `recogniser` after `stop`.
        """
        self.consumer = consumer or process_name()
        self._server = server
        self._settings = settings
        self._log = RedisLog(server, session_ttl_s=settings.session_ttl_s)
        claims = Claims(
            server, self.consumer, lease_ms=settings.lease_ms, session_ttl_s=settings.session_ttl_s,
            queue=settings.queue,
        )
        self._claims = claims
        self.active_runs = ActiveRuns(settings.capacity)
        metrics = WorkerMetrics(server.meter.registry)
        self._recognition = RecognitionQueue(recogniser, metrics, has_live=lambda: self.active_runs.has_live)
        self._sharer = self._make_sharer(settings.engine or recogniser.name, metrics)
        self._quarantine = Quarantine(claims, trial, metrics)
        self._abilities = abilities_of(recogniser, recogniser.name)
        self._misfits = Misfits(self._log, claims, self._abilities)
        self._keeper = ClaimKeeper(
            claims, self.active_runs, settings, on_suspect=self._quarantine.try_suspect,
            on_poison=self._quarantine.quarantine, misfits=self._misfits, metrics=metrics,
        )  # fmt: skip
        self._answers = ProvisionalAnswers(server)
        self._decoders = DecoderPool(
            RedisLog(server, session_ttl_s=settings.session_ttl_s),
            Uploads(server, ahead_bytes=settings.max_upload_ahead_bytes, session_ttl_s=settings.session_ttl_s),
            self.active_runs, settings, on_log_error=self._keeper.report_error, on_answers=self._answers.publish,
        )  # fmt: skip
        self._committer = Committer(
            self._log, self.active_runs, audio_retention_s=settings.audio_retention_s,
            keeps_unarchived=settings.keeps_unarchived, on_log_error=self._keeper.report_error,
            on_answers=self._answers.publish, on_stale=self._keeper.offer_again, metrics=metrics,
        )  # fmt: skip
        early = EarlyFinals(self._recognition, metrics, early_final_ms=settings.early_final_ms)
        self._reader = AudioReader(
            self._log, self.active_runs, self._recognition, settings,
            on_log_error=self._keeper.report_error, on_poison=self._on_poison, early=early,
        )  # fmt: skip
        self._partials = Partials(server, self.active_runs, self._recognition, settings, early)
        self._speech_events = SpeechEvents(server, self.active_runs)
        server.meter.add_reader(
            WorkerCollector(
                self.active_runs, self._recognition, self._reader, self._decoders,
                sharer=self._sharer, max_pending_utterances=settings.max_pending_utterances,
            )
        )
        self._janitor = Janitor(self._log, claims, settings)
        self._trimmer = EarlyTrimmer(server, settings)
        self._partitions_by_channel = {keys.queue(settings.queue).wakeup: keys for keys in server.keys.partitions}
        channels = [*self._partitions_by_channel, *([self._sharer.wake_channel] if self._sharer else [])]
        self._wakeups = Wakeups(server, channels, self._on_wakeup, self._keeper.wake)
        self._tasks = ServiceTasks()
        self._is_stopped = False

    async def start(self) -> None:
        """Begin to claim and work; does nothing if `stop` was called meanwhile.

        Raises:
            LogUnavailableError: if Redis cannot be reached now; nothing was started.
        """
        await self._claims.ensure_groups()
        # That call may have waited in a stall of Redis for longer than a new worker's grace period.
        self._keeper.begin_grace_period()
        if self._is_stopped:
            return
        await self._wakeups.start()
        for name, work in (
            ("wake-ups", self._wakeups.wait()),
            ("claims", self._keeper.run_taking()),
            ("renewal", self._keeper.run_renewing()),
            ("reader", self._reader.run()),
            ("committer", self._committer.run()),
            ("partials", self._partials.run()),
            ("speech events", self._speech_events.run()),
            ("decoders", self._decoders.run()),
            ("answers", self._answers.run()),
            ("janitor", self._janitor.run()),
            ("early trim", self._trimmer.run()),
            ("heartbeat", periodically(HEARTBEAT_S, self._write_heartbeat, name="heartbeat", at_once=True)),
            *([("sharing", self._sharer.run())] if self._sharer else []),
        ):
            self._tasks.spawn(f"worker {name}", work)
        self._keeper.wake()
        log.info("worker started", extra={"consumer": self.consumer})

    async def wait(self) -> None:
        """Return once stopped; raise the cause if one of the worker's tasks ends before."""
        await self._tasks.wait()

    async def stop(self) -> None:
        """Stop working and hand every run over; safe to call twice, or before `start` has ended."""
        self._is_stopped = True
        await self._tasks.stop()
        await self._keeper.finish_taking()
        await self._quarantine.stop()
        await self._misfits.stop()
        await self._wakeups.stop()
        if self._sharer:
            await self._sharer.stop()
        self._recognition.close()
        try:
            await self._keeper.hand_over_all()
        except LogUnavailableError as error:
            log.warning("runs not handed over; their claims expire", extra={"error": error})
        log.info("worker stopped", extra={"consumer": self.consumer})

    def _make_sharer(self, engine: str, metrics: WorkerMetrics) -> Sharer | None:
        if not self._settings.shared_recognition:
            return None
        lease_ms = self._settings.shared_recognition_lease_ms
        shared = SharedRecognition(self._server, engine, self.consumer, lease_ms=lease_ms)
        return Sharer(shared, self._recognition, metrics)

    def _on_wakeup(self, channel: str, _member: bytes) -> None:
        if partition := self._partitions_by_channel.get(channel):
            self._keeper.wake(partition)
        elif self._sharer:
            self._sharer.wake()

    def _on_poison(self, run: ActiveRun, reason: str) -> None:
        self.active_runs.remove(run)
        self._quarantine.quarantine(run.claim, reason)

    async def _write_heartbeat(self) -> None:
        role = "replayer" if self._settings.queue else "worker"
        now = time.monotonic()
        waits_since = min((run.waits_since for run in self.active_runs), default=now)
        signs = {
            "runs": len(self.active_runs),
            "capacity": self.active_runs.capacity,
            "waiting_utterances": self._recognition.waiting,
            "decoders": self._decoders.child_count,
            RESTARTS: 1,
            ABILITIES: msgspec.to_builtins(self._abilities),
            # This task lives on when the main loops hang; readiness asks for their age.
            "consumed_age_s": round(now - min(self._reader.consumed_at, self._keeper.taken_at), 3),
            "oldest_decision_s": round(max(0.0, now - waits_since), 3),
        }
        await write_heartbeat(self._server, role, self.consumer, signs)
