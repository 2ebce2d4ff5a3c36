"""Publishes what was asked about an open utterance: best effort, never logged."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from eventlog.log import LogUnavailableError
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message

if TYPE_CHECKING:
    from eventlog.redis.server import Server
    from processor.active_run import ActiveRun

log = logging.getLogger(__name__)


class ProvisionalAnswers:
    """Takes the answers of committed runs to those who wait for them."""

    def __init__(self, server: Server) -> None:
        """Publish through `server`."""
        self._server = server
        self._waiting: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()

    def take(self, run: ActiveRun) -> None:
        """Publish a run's answers soon."""
        keys = run.claim.keys
        for answer in run.answers:
            body = msgspec.json.encode(answer).decode()
            message = FeedMessage(FeedKind.ANSWER, keys.member, str(run.last_fact), "", body)
            self._waiting.append((keys.partition.feed_channel, encode_message(message)))
        run.answers.clear()
        self._news.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            answers, self._waiting = self._waiting, []
            try:
                await self._server.execute_many([("SPUBLISH", channel, text) for channel, text in answers])
            except LogUnavailableError:
                log.info("answers dropped: log unreachable", extra={"answers": len(answers)})
