"""Uploads of sockets that are ahead of their decoders: they wait, unread, until they may go on."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.session.upload_credit import LOOK_S, ProgressTimeout, UploadCredit
from eventlog.log import LogUnavailableError

if TYPE_CHECKING:
    from edge.session.append_batcher import AppendLog, AppendSource

logger = logging.getLogger(__name__)


class CreditWaiters:
    """Asks for all that wait, and lets go on those that may."""

    def __init__(self, log: AppendLog, credit: UploadCredit, go_on: Callable[[AppendSource], None]) -> None:
        """Ask `credit`, pass signs of life on to `log`, call `go_on` for whom may append more."""
        self._log = log
        self._credit = credit
        self._go_on = go_on
        self._waiting: dict[AppendSource, ProgressTimeout] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, feeder: AppendSource) -> None:
        """Have a feeder wait whose uplink may append no more now."""
        self._waiting.setdefault(feeder, ProgressTimeout())
        self._some.set()

    async def run(self) -> None:
        """Ask now and then while anybody waits, until cancelled."""
        while True:
            await self._some.wait()
            try:
                await self._look()
            except LogUnavailableError as error:
                logger.info("uploads wait for the log", extra={"uploads": len(self._waiting), "error": error})
            if not self._waiting:
                self._some.clear()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        feeders = list(self._waiting)
        granted = await self._credit.of(feeder.uplink.keys.session_id for feeder in feeders)
        for feeder, credit_bytes in zip(feeders, granted, strict=True):
            if credit_bytes > feeder.uplink.credit_bytes:
                feeder.uplink.credit_bytes = credit_bytes
                del self._waiting[feeder]
                self._go_on(feeder)
        # Of a client that is gone there is no life to be told of.
        due = [feeder for feeder, still in self._waiting.items() if still.is_due() and not feeder.abandoned]
        if due:
            await self._log.touch([(feeder.uplink.keys, feeder.uplink.epoch) for feeder in due])
        if any(still.is_long for still in self._waiting.values()):
            await self._give_up()

    async def _give_up(self) -> None:
        is_hopeless = await self._credit.is_hopeless()
        for feeder, still in list(self._waiting.items()):
            if not still.is_long:
                continue
            if is_hopeless:
                del self._waiting[feeder]
                feeder.stalled(math.inf)
            still.begin_again()
