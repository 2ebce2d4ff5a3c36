"""Publishes answers to requests for an open utterance's text: best effort, never logged."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from eventlog.log import LogUnavailableError
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from eventlog.redis.server import Server
from processor.active_runs import ActiveRun

log = logging.getLogger(__name__)


class ProvisionalAnswers:
    """Publishes the answers of committed runs to the edges that wait for them."""

    def __init__(self, server: Server) -> None:
        """Publish through `server`."""
        self._server = server
        self._waiting: list[tuple[str, bytes]] = []
        self._is_waiting = asyncio.Event()

    def publish(self, run: ActiveRun) -> None:
        """Publish a run's answers soon."""
        keys = run.claim.keys
        for answer in run.answers:
            body = msgspec.json.encode(answer).decode()
            message = FeedMessage(FeedKind.ANSWER, keys.member, str(run.last_fact), "", body)
            self._waiting.append((keys.partition.feed_channel, encode_message(message)))
        run.answers.clear()
        self._is_waiting.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._is_waiting.wait()
            self._is_waiting.clear()
            answers, self._waiting = self._waiting, []
            try:
                await self._server.execute_many([("SPUBLISH", channel, text) for channel, text in answers])
            except LogUnavailableError:
                log.info("answers dropped: log unavailable", extra={"answers": len(answers)})
