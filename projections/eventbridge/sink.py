"""Tells EventBridge how recorded files ended, by whatever credentials boto3 finds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

from eventlog.events import Fact, SessionOpened
from eventlog.keys import SINKS
from projections.eventbridge import entries
from projections.eventbridge.client import MOST_CALLS, Clients, EventBridgeSettings, connect
from projections.eventbridge.log_fields import lengths, log_trouble, named
from projections.eventbridge.responses import Trouble, trouble_of
from projections.eventbridge.sender import Sending
from projections.eventbridge.threads import in_daemon_thread
from projections.forwarding.sink import Outcome, Outgoing, Verdict
from projections.integration_events import Event, Kind, batch_kinds

logger = logging.getLogger(__name__)

FAILED_RELOOK_S = 5.0
"""After which credentials that are configured but couldn't be had are asked for again; an operator may be at it."""

_NO_CREDENTIALS = Verdict(Outcome.OFF, "no AWS credentials")


class EventBridge:
    """The sink `eventbridge`; see `projections.forwarding.sink.Sink`.

    A request holds one event of a session at most, so that entries, which fail apart, never overtake each other.
    """

    name = SINKS[0]
    most_events = entries.MOST_ENTRIES
    most_calls = MOST_CALLS

    def __init__(self, settings: EventBridgeSettings) -> None:
        self._settings = settings
        self._is_started = False
        self._looking: asyncio.Task[None] | None = None
        self._clients: Clients | None = None
        self._trouble: Trouble | None = None
        self._looked_at_s = 0.0

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """The end of a recorded file."""
        return batch_kinds(opened, fact)

    async def start(self) -> None:
        """Begin to look for credentials; that may take seconds where there are none, so nobody waits for it here."""
        self._is_started = True
        self._look()

    async def stop(self) -> None:
        """Close the connections; nobody waits for calls that are under way."""
        self._is_started = False
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        self._looking = None
        if self._clients is not None:
            self._clients.close()
        self._clients = None

    async def send(self, events: Sequence[Outgoing]) -> Sequence[Verdict]:
        """Put the events on the bus; what was not taken is told apart by whether another try may help."""
        await self._looked()
        clients = self._clients
        if clients is None:
            verdict = self._unable()
            for outgoing in events:
                self._log_unsent(outgoing.event, verdict)
            return [verdict] * len(events)
        return await Sending(self._settings, clients, events).made()

    async def _looked(self) -> None:
        """Wait for a bound until it is known whether there are credentials; look again once the last look is old."""
        if self._clients is not None or not self._is_started:
            return
        age_s = time.monotonic() - self._looked_at_s
        if self._looking is None or (
            self._looking.done() and age_s > (FAILED_RELOOK_S if self._trouble else self._settings.relook_s)
        ):
            self._look()
        assert self._looking is not None  # noqa: S101 -- `_look` sets it
        await asyncio.wait([self._looking], timeout=self._settings.lookup_s)

    def _unable(self) -> Verdict:
        if self._trouble is not None:
            return Verdict(Outcome.LATER, f"AWS: {self._trouble.code}")
        if self._looking is None or not self._looking.done():
            return Verdict(Outcome.LATER, "AWS credentials are still being looked for")
        return _NO_CREDENTIALS

    def _look(self) -> None:
        if self._clients is None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._connect(first=self._looking is None))

    async def _connect(self, *, first: bool) -> None:
        try:
            self._clients = await in_daemon_thread(lambda: connect(self._settings))
        except Exception as error:  # noqa: BLE001 - configured, but can't be had: whatever it is, it may pass
            self._trouble = trouble_of(error)
            log_trouble("AWS can't be used", self._trouble, ())
        else:
            self._trouble = None
            if self._clients is not None:
                logger.info("events go to EventBridge", extra={"source": self._settings.source, **self._where()})
            elif first:
                logger.warning("no AWS credentials: events are not forwarded to EventBridge", extra=self._where())
        self._looked_at_s = time.monotonic()

    def _where(self) -> dict[str, str]:
        return {"bus": self._settings.bus_name, "region": self._settings.region}

    def _log_unsent(self, event: Event, verdict: Verdict) -> None:
        # The body is not encoded: with forwarding off, that would be most of the work.
        logger.warning("event not forwarded", extra={
            **named(event, self._settings.source), "outcome": verdict.outcome.value, "reason": verdict.reason,
            **lengths(event),
        })  # fmt: skip
