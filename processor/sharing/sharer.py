"""The worker's role that shares recognition: one task, which offers, takes, and reports results."""

from __future__ import annotations

import asyncio
import logging

from eventlog.log import LogUnavailableError
from eventlog.work.shared_recognition import SharedRecognition
from processor.metrics import WorkerMetrics
from processor.recognition_queue import RecognitionQueue
from processor.sharing.offerer import Offerer
from processor.sharing.taker import Taker

log = logging.getLogger(__name__)

ROUND_S = 0.05
"""Between two rounds: short against a recognition, and most rounds of a worker without recordings ask Redis nothing."""

RETRY_S = 1.0
"""Pause after Redis could not be reached: this worker's own recognition continues without it."""


class Sharer:
    """Shares the queue of one worker with all that have the same engine."""

    def __init__(self, shared: SharedRecognition, queue: RecognitionQueue, metrics: WorkerMetrics) -> None:
        """Offer utterances that wait in `queue`, and recognise by it the offers of others."""
        self._offerer = Offerer(shared, queue, metrics)
        self._taker = Taker(shared, queue, self._offerer, metrics)
        self.wake_channel = shared.wakeup
        """Published to when others offer work."""

    @property
    def offered_utterances(self) -> int:
        """How many of this worker's utterances wait for a result from another one."""
        return self._offerer.waiting

    async def run(self) -> None:
        """Share until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            try:
                await self.do_round()
            except LogUnavailableError as error:
                log.warning("recognition not shared; retrying", extra={"error": error})
                await asyncio.sleep(RETRY_S)

    async def do_round(self) -> None:
        """Offer, take, and report results once.

        Raises:
            LogUnavailableError: if Redis cannot be reached; the next round continues from there.
        """
        await self._offerer.do_round()
        await self._taker.do_round()

    def wake(self) -> None:
        """Look for work in the next round."""
        self._taker.wake()

    async def stop(self) -> None:
        """Release taken utterances, and withdraw offered ones; to be called after `run` was cancelled."""
        try:
            await self._taker.release()
            await self._offerer.withdraw()
        except LogUnavailableError as error:
            log.warning("shared utterances not released; their leases expire", extra={"error": error})
