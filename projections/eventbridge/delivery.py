"""One call of the sink: checks its events, stores those that are too long, puts them on the bus, reads the results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from projections.eventbridge.bodies import find_fault
from projections.eventbridge.client import Clients, EventBridgeSettings
from projections.eventbridge.entries import Entry, make_entry, reference_body, split_requests, stored_body
from projections.eventbridge.responses import (
    Failure,
    log_failure,
    log_fields,
    log_lengths,
    read_failure,
    read_result,
)
from projections.eventbridge.threads import in_daemon_thread
from projections.forwarding.sink import Outcome, Result
from projections.integration_events import Event, Kind

logger = logging.getLogger(__name__)

_HELD_UP = Result(Outcome.RETRY, "an earlier event of the session was not taken")


@dataclass
class Delivery:
    """One call of `EventBridge.send`."""

    settings: EventBridgeSettings
    clients: Clients
    events: Sequence[Event]
    _results: list[Result] = field(default_factory=list)
    _held_up: set[str] = field(default_factory=set)
    """Sessions one of whose events was not taken."""

    async def run(self) -> list[Result]:
        """Deliver the events, and return the result of each, in order."""
        self._results = [_HELD_UP] * len(self.events)
        source, bus_name = self.settings.source, self.settings.bus_name
        entries: list[Entry] = []
        for place, event in enumerate(self.events):
            if event.session_id in self._held_up:
                continue
            if reason := find_fault(event.kind, event.body):
                self._reject(place, reason)
                continue
            entry = make_entry(place, event, event.body, source=source, bus_name=bus_name)
            if entry.size_bytes <= self.settings.max_bytes:
                entries.append(entry)
            elif (body := await self._store(place)) is not None:
                entries.append(make_entry(place, event, body, source=source, bus_name=bus_name))
        for request in split_requests(entries, self.settings.max_bytes):
            await self._put([one for one in request if one.event.session_id not in self._held_up])
        return self._results

    async def _store(self, place: int) -> dict[str, Any] | None:
        """Store the body of an event that is too long, and return one that refers to it; None if that fails."""
        event, bucket = self.events[place], self.settings.bucket
        if not bucket or event.kind is not Kind.BATCH_COMPLETED:
            more = "" if bucket else ", and no bucket is set for such"
            self._reject(place, f"the event is above EventBridge's size limit{more}")
            return None
        stored = stored_body(event, self.settings.bucket_prefix)
        body = reference_body(event, bucket, stored)
        if reason := find_fault(event.kind, body):
            self._reject(place, reason)
            return None
        about = log_fields(event, self.settings.source)
        try:
            await in_daemon_thread(lambda: self.clients.put_object(stored))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged, and the event comes again
            failure = read_failure(error, self.clients.secrets())
            log_failure("event not stored in S3", failure, [about])
            self._fail(place, Result(Outcome.RETRY, f"S3: {failure.code}"))
            return None
        logger.info("event stored in S3", extra={**about, "object_bytes": len(stored.content)})
        return body

    def _reject(self, place: int, reason: str) -> None:
        event = self.events[place]
        self._fail(place, Result(Outcome.REJECTED, reason))
        about = {**log_fields(event, self.settings.source), **log_lengths(event)}
        logger.error("event rejected", extra={**about, "reason": reason})

    def _fail(self, place: int, result: Result) -> None:
        self._results[place] = result
        self._held_up.add(self.events[place].session_id)

    async def _put(self, entries: Sequence[Entry]) -> None:
        """Make one request; if it fails as a whole by the fault of one of its entries, halves of it."""
        if not entries:
            return
        try:
            answers = await in_daemon_thread(lambda: self.clients.put_events([one.fields for one in entries]))
        except Exception as error:  # noqa: BLE001 - time-outs, refusals, garbage: all are logged and judged
            await self._put_halves(entries, read_failure(error, self.clients.secrets()))
            return
        missing: list[dict[str, Any]] = [{}] * max(0, len(entries) - len(answers))  # an emulator's answer may be short
        for entry, answer in zip(entries, [*answers, *missing], strict=False):
            result = read_result(answer)
            about = {**log_fields(entry.event, self.settings.source), "detail_bytes": entry.detail_bytes}
            if result.outcome is Outcome.SENT:
                self._results[entry.place] = result
                logger.info("event forwarded", extra={**about, "aws_event_id": str(answer.get("EventId"))})
            else:
                self._fail(entry.place, result)
                about |= {"outcome": result.outcome.value, "reason": result.reason}
                logger.warning("event not forwarded", extra=about)

    async def _put_halves(self, entries: Sequence[Entry], failure: Failure) -> None:
        """After a failed request, find the entry to blame by putting halves, down to single entries."""
        log_failure("EventBridge did not take a request", failure, [
            {**log_fields(one.event, self.settings.source), "detail_bytes": one.detail_bytes} for one in entries
        ])  # fmt: skip
        if failure.blames_entry and len(entries) > 1:
            half = len(entries) // 2
            await self._put(entries[:half])
            await self._put(entries[half:])
            return
        outcome = Outcome.REJECTED if failure.blames_entry else Outcome.RETRY
        for one in entries:
            self._fail(one.place, Result(outcome, f"EventBridge: {failure.code}"))
