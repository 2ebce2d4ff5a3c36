"""Notifies clients that asked for it when speech begins: best effort, published, never logged."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from eventlog.log import LogUnavailableError
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from eventlog.redis.server import Server
from processor.active_runs import ActiveRun, ActiveRuns

log = logging.getLogger(__name__)

LOOK_S = 0.05
"""Between two looks at all runs, as for partials."""


class SpeechEvents:
    """Publishes the start of each utterance of live runs whose sessions have speech events, once a claim."""

    def __init__(self, server: Server, runs: ActiveRuns) -> None:
        """Publish through `server`."""
        self._server = server
        self._runs = runs
        self._published: dict[ActiveRun, list[int | None]] = {}
        """Where each channel's open utterance began, of the runs at the last look."""

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if due := self._due():
                await self._publish(due)

    def _due(self) -> list[tuple[str, bytes]]:
        """The messages, each with its channel, of all utterances that have begun since the last look."""
        found: list[tuple[str, bytes]] = []
        published: dict[ActiveRun, list[int | None]] = {}
        for run in self._runs:
            if not run.start.speech_events or run.is_recorded:
                continue
            starts = published[run] = run.timeline.speech_starts()
            before = self._published.get(run, [])
            keys = run.claim.keys
            for channel, start in enumerate(starts):
                if start is not None and before[channel : channel + 1] != [start]:
                    message = FeedMessage(FeedKind.SPEECH, keys.member, body=_body(run, channel, start))
                    found.append((keys.partition.feed_channel, encode_message(message)))
        self._published = published
        return found

    async def _publish(self, messages: list[tuple[str, bytes]]) -> None:
        try:
            await self._server.execute_many([("SPUBLISH", channel, text) for channel, text in messages])
        except LogUnavailableError:
            log.info("speech events dropped: log unavailable", extra={"events": len(messages)})


def _body(run: ActiveRun, channel: int, start_samples: int) -> str:
    start_s = round(start_samples / run.start.sample_rate_hz, 3)
    return msgspec.json.encode({"type": "speech_started", "start": start_s, "channel": channel}).decode()
