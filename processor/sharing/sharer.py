"""The worker's role that shares recognition: one task, which offers, takes, and hands results over."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from eventlog.log import LogUnavailableError
from processor.sharing.offerer import Offerer
from processor.sharing.taker import Taker

if TYPE_CHECKING:
    from eventlog.work.shared_recognition import SharedRecognition
    from processor.metrics import WorkerMetrics
    from processor.recognition_queue import RecognitionQueue

log = logging.getLogger(__name__)

LOOK_S = 0.05
"""Between two rounds: short against a recognition, and most rounds of a worker without recordings ask Redis nothing."""

TROUBLE_S = 1.0
"""Pause after Redis couldn't be reached: what is recognised here goes on without it."""


class Sharer:
    """Shares the queue of one worker with all that have the same engine."""

    def __init__(self, recognising: SharedRecognition, queue: RecognitionQueue, metrics: WorkerMetrics) -> None:
        """Offer what waits in `queue`, and recognise by it what others offer."""
        self.offering = Offerer(recognising, queue, metrics)
        self.taking = Taker(recognising, queue, self.offering, metrics)
        self.bell = recognising.wakeup
        """Rung when others have work to give."""

    async def run(self) -> None:
        """Share until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.round()
            except LogUnavailableError as error:
                log.warning("recognition isn't shared for now", extra={"error": error})
                await asyncio.sleep(TROUBLE_S)

    async def round(self) -> None:
        """Once all there is to do.

        Raises:
            LogUnavailableError: if Redis can't be reached; the next round goes on from there.
        """
        await self.offering.round()
        await self.taking.round()

    def ring(self) -> None:
        """Look for work in the next round."""
        self.taking.ring()

    async def stop(self) -> None:
        """Let others have what was taken, and take back what was offered; after `run` was cancelled."""
        try:
            await self.taking.release()
            await self.offering.withdraw()
        except LogUnavailableError as error:
            log.warning("shared utterances not given back; others take them after the lease", extra={"error": error})
