"""A worker: claims runs, reads their audio, recognises, commits. Any number may run; any may die at any time."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from eventlog.log import LogUnavailableError
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.wakeups import Wakeups
from eventlog.work.claims import Claims
from eventlog.work.heartbeats import process_name
from eventlog.work.heartbeats import write as write_heartbeat
from eventlog.work.shared_recognition import SharedRecognition
from eventlog.work.uploads import RESTARTS, Uploads
from processor.active_runs import ActiveRuns
from processor.audio_reader import Reader
from processor.claim_keeper import ClaimKeeper
from processor.committer import Committer
from processor.decoding.decoder_pool import DecoderPool
from processor.early_trimmer import EarlyTrimmer
from processor.janitor import Janitor
from processor.metrics import WorkerCollector, WorkerMetrics
from processor.partials import Partials
from processor.provisional_answers import ProvisionalAnswers
from processor.quarantine import Quarantine, SoloTrial
from processor.recognition_queue import RecognitionQueue
from processor.sharing.sharer import Sharer

if TYPE_CHECKING:
    from eventlog.redis.server import Server
    from processor.active_run import ActiveRun
    from processor.recognisers import Recogniser
    from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

HEARTBEAT_S = 3.0
"""Readiness turns red after 15 s of silence; a few lost beats shall not do that."""


class Worker:
    """One worker process's processing side."""

    def __init__(
        self,
        server: Server,
        settings: WorkerSettings,
        recogniser: Recogniser,
        *,
        try_alone: SoloTrial,
        consumer: str | None = None,
    ) -> None:
        """Work for the deployment in `server`; `try_alone` tries a suspected run in a process of its own.

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
        self.holdings = ActiveRuns(settings.capacity)
        metrics = WorkerMetrics(server.meter.registry)
        self._recognition = RecognitionQueue(recogniser, metrics, has_live=lambda: self.holdings.has_live)
        self._sharing = self._shares(settings.engine or recogniser.name, metrics) if settings.shared_recognition else None
        self._quarantine = Quarantine(claims, self.holdings, try_alone, metrics)
        self._keeper = ClaimKeeper(
            claims, self.holdings, settings, on_suspect=self._quarantine.admit, on_poison=self._quarantine.quarantine,
            metrics=metrics,
        )  # fmt: skip
        self._answers = ProvisionalAnswers(server)
        self._decoders = DecoderPool(
            RedisLog(server, session_ttl_s=settings.session_ttl_s), self._uploads(), self.holdings, settings,
            on_trouble=self._keeper.troubled, on_answers=self._answers.take,
        )  # fmt: skip
        self._committer = Committer(
            self._log, self.holdings, audio_retention_s=settings.audio_retention_s,
            keeps_unarchived=settings.keeps_unarchived, on_trouble=self._keeper.troubled,
            on_answers=self._answers.take, on_stale=self._keeper.offer_again, metrics=metrics,
        )  # fmt: skip
        self._reader = Reader(
            self._log, self.holdings, self._recognition, settings,
            on_trouble=self._keeper.troubled, on_poison=self._poisoned,
        )  # fmt: skip
        self._partials = Partials(server, self.holdings, self._recognition, settings)
        server.meter.add_reader(
            WorkerCollector(
                self.holdings, self._recognition, self._reader, self._decoders,
                sharing=self._sharing, most_waiting=settings.max_pending_utterances,
            )
        )
        self._janitor = Janitor(self._log, claims, settings)
        self._by_bell = {keys.queue(settings.queue).wakeup: keys for keys in server.keys.partitions}
        shared = [self._sharing.bell] if self._sharing else []
        self._bells = Wakeups(server, [*self._by_bell, *shared], self._on_bell, self._keeper.ring)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to claim and work.

        Raises:
            LogUnavailableError: if Redis can't be reached now; nothing was started.
        """
        await self._claims.ensure_groups()
        self._keeper.unsettle()  # that call may have waited in a stall of Redis for longer than a new worker is calm
        await self._bells.start()
        self._tasks = [
            asyncio.create_task(work, name=f"worker {name}")
            for name, work in (
                ("claims", self._keeper.run_taking()),
                ("renewal", self._keeper.run_renewing()),
                ("reader", self._reader.run()),
                ("committer", self._committer.run()),
                ("partials", self._partials.run()),
                ("decoders", self._decoders.run()),
                ("answers", self._answers.run()),
                ("janitor", self._janitor.run()),
                ("relief", EarlyTrimmer(self._server, self._settings).run()),
                ("heartbeat", self._beat()),
                *([("sharing", self._sharing.run())] if self._sharing else []),
            )
        ]
        self._keeper.ring()
        log.info("worker started", extra={"consumer": self.consumer})

    async def wait(self) -> None:
        """Return, or raise what went wrong, as soon as any of the worker's tasks ends; none should."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """Stop working and hand every run over; safe to call twice, or before `start` has ended."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._keeper.finish_taking()
        await self._quarantine.stop()
        await self._bells.stop()
        if self._sharing:
            await self._sharing.stop()
        self._recognition.close()
        try:
            await self._keeper.hand_over_all()
        except LogUnavailableError as error:
            log.warning("runs not handed over; others take them after the lease", extra={"error": error})
        log.info("worker stopped", extra={"consumer": self.consumer})

    def _shares(self, engine: str, metrics: WorkerMetrics) -> Sharer:
        lease_ms = self._settings.shared_recognition_lease_ms
        recognising = SharedRecognition(self._server, engine, self.consumer, lease_ms=lease_ms)
        return Sharer(recognising, self._recognition, metrics)

    def _uploads(self) -> Uploads:
        settings = self._settings
        return Uploads(
            self._server, ahead_bytes=settings.max_upload_ahead_bytes, session_ttl_s=settings.session_ttl_s
        )

    def _on_bell(self, channel: str, _member: bytes) -> None:
        if partition := self._by_bell.get(channel):
            self._keeper.ring(partition)
        elif self._sharing:
            self._sharing.ring()

    def _poisoned(self, run: ActiveRun, reason: str) -> None:
        self.holdings.drop(run)
        self._quarantine.quarantine(run.claim, reason)

    async def _beat(self) -> None:
        role = "replayer" if self._settings.queue else "worker"
        while True:
            now = time.monotonic()
            waits_since = min((run.waits_since for run in self.holdings), default=now)
            signs = {
                "runs": len(self.holdings),
                "capacity": self.holdings.capacity,
                "waiting_utterances": self._recognition.waiting,
                "decoders": self._decoders.children,
                RESTARTS: 1,
                # This task lives on when the loops hang that do the work; readiness asks for them.
                "consumed_age_s": round(now - min(self._reader.consumed_at, self._keeper.looked_at), 3),
                "oldest_decision_s": round(max(0.0, now - waits_since), 3),
            }
            try:
                await write_heartbeat(self._server, role, self.consumer, signs)
            except LogUnavailableError as error:
                log.warning("heartbeat not written", extra={"error": error})
            await asyncio.sleep(HEARTBEAT_S)
