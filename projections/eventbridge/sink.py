"""The sink `eventbridge`: the ends of recorded files, by the credentials that boto3 finds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

from eventlog.keys import SINKS
from projections.eventbridge.bodies import find_fault
from projections.eventbridge.client import MOST_CALLS, Clients, EventBridgeSettings, connect
from projections.eventbridge.delivery import HELD_UP, Delivery
from projections.eventbridge.entries import MOST_ENTRIES, Entry, make_entry, split_requests
from projections.eventbridge.responses import Failure, log_failure, log_fields, log_lengths, read_failure
from projections.eventbridge.threads import in_daemon_thread
from projections.forwarding.sink import Outcome, Result
from projections.integration_events import Event, batch_kinds, drop_words

logger = logging.getLogger(__name__)

FAILED_RELOOK_S = 5.0
"""After which credentials that are configured but couldn't be had are asked for again; an operator may be at it."""

_NO_CREDENTIALS = Result(Outcome.SKIPPED, "no AWS credentials")


class EventBridge:
    """The sink `eventbridge`; see `projections.forwarding.sink.Sink`.

    A request holds one event of a session at most, so that entries, which fail apart, never overtake each other.
    """

    name = SINKS[0]
    most_events = MOST_ENTRIES
    most_calls = MOST_CALLS
    kinds = staticmethod(batch_kinds)

    def __init__(self, settings: EventBridgeSettings) -> None:
        self._settings = settings
        self._is_started = False
        self._connecting: asyncio.Task[None] | None = None
        self._clients: Clients | None = None
        self._failure: Failure | None = None
        self._looked_at_s = 0.0

    async def start(self) -> None:
        """Begin to look for credentials; where none exist that takes seconds, so `start` does not wait for it."""
        self._is_started = True
        self._connect_in_background()

    async def stop(self) -> None:
        """Close the connections, without waiting for calls that are under way."""
        self._is_started = False
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        self._connecting = None
        if self._clients is not None:
            self._clients.close()
        self._clients = None

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """Put the events on the bus; the result of each says whether another try may help."""
        if self._clients is None:
            await self._wait_for_credentials()
        if self._clients is None:
            return self._skip_without_credentials(events)
        delivery = Delivery(self._settings, self._clients, events, [HELD_UP] * len(events))
        source, bus_name, most_bytes = self._settings.source, self._settings.bus_name, self._settings.max_bytes
        bucket = self._settings.bucket
        entries: list[Entry] = []
        for place, event in enumerate(events):
            if event.session_id in delivery.held_up:
                continue
            if reason := find_fault(event.kind, event.body):
                delivery.reject(place, reason)
                continue
            entry = make_entry(place, event, event.body, source=source, bus_name=bus_name)
            if entry.size_bytes > most_bytes and not bucket and (smaller := drop_words(event)) is not None:
                entry = make_entry(place, event, smaller.body, source=source, bus_name=bus_name)
            if entry.size_bytes <= most_bytes:
                entries.append(entry)
            elif (body := await delivery.store(place)) is not None:
                entries.append(make_entry(place, event, body, source=source, bus_name=bus_name))
        for request in split_requests(entries, most_bytes):
            await delivery.put(request)
        return delivery.results

    def _skip_without_credentials(self, events: Sequence[Event]) -> list[Result]:
        result = _NO_CREDENTIALS
        if self._failure is not None:
            result = Result(Outcome.RETRY, f"AWS: {self._failure.code}")
        elif self._connecting is None or not self._connecting.done():
            result = Result(Outcome.RETRY, "AWS credentials are still being looked for")
        for event in events:
            # The body is not encoded: with forwarding off, that would be most of the work.
            about = {**log_fields(event, self._settings.source), **log_lengths(event)}
            about |= {"outcome": result.outcome.value, "reason": result.reason}
            logger.warning("event not forwarded", extra=about)
        return [result] * len(events)

    async def _wait_for_credentials(self) -> None:
        """Wait, within a bound, for the look-up; begin another one if the last is old."""
        if not self._is_started:
            return
        age_s = time.monotonic() - self._looked_at_s
        if age_s > (FAILED_RELOOK_S if self._failure else self._settings.relook_s):
            self._connect_in_background()
        if self._connecting is not None:
            await asyncio.wait([self._connecting], timeout=self._settings.lookup_s)

    def _connect_in_background(self) -> None:
        if self._clients is None and (self._connecting is None or self._connecting.done()):
            self._connecting = asyncio.create_task(self._connect(is_first=self._connecting is None))

    async def _connect(self, *, is_first: bool) -> None:
        about = {"bus": self._settings.bus_name, "region": self._settings.region}
        try:
            self._clients = await in_daemon_thread(lambda: connect(self._settings))
        except Exception as error:  # noqa: BLE001 - configured, but can't be had: whatever it is, it may pass
            self._failure = read_failure(error)
            log_failure("AWS credentials unusable; retrying", self._failure, ())
        else:
            self._failure = None
            if self._clients is not None:
                logger.info("EventBridge connected", extra={"source": self._settings.source, **about})
            elif is_first:
                logger.warning("no AWS credentials: events are not forwarded to EventBridge", extra=about)
        self._looked_at_s = time.monotonic()
