"""One call of the sink: stores events that are too long, puts entries on the bus, and keeps the results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from projections.eventbridge.bodies import find_fault
from projections.eventbridge.client import Clients, EventBridgeSettings
from projections.eventbridge.entries import Entry, reference_body, stored_body
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

HELD_UP = Result(Outcome.RETRY, "an earlier event of the session was not taken")


@dataclass
class Delivery:
    """One call of `EventBridge.send`."""

    settings: EventBridgeSettings
    clients: Clients
    events: Sequence[Event]
    results: list[Result]
    """Of each event, in order; `HELD_UP` until its own is known."""
    held_up: set[str] = field(default_factory=set)
    """Sessions one of whose events was not taken."""

    async def store(self, place: int) -> dict[str, Any] | None:
        """Store the body of an event that is too long, and return one that refers to it; None if that fails."""
        event, bucket = self.events[place], self.settings.bucket
        if not bucket or event.kind is not Kind.BATCH_COMPLETED:
            more = "" if bucket else ", and no bucket is set for such"
            self.reject(place, f"the event is above EventBridge's size limit{more}")
            return None
        stored = stored_body(event, self.settings.bucket_prefix)
        body = reference_body(event, bucket, stored)
        if reason := find_fault(event.kind, body):
            self.reject(place, reason)
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

    def reject(self, place: int, reason: str) -> None:
        """Reject an event that the bus would never take."""
        event = self.events[place]
        self._fail(place, Result(Outcome.REJECTED, reason))
        about = {**log_fields(event, self.settings.source), **log_lengths(event)}
        logger.error("event rejected", extra={**about, "reason": reason})

    def _fail(self, place: int, result: Result) -> None:
        self.results[place] = result
        self.held_up.add(self.events[place].session_id)

    async def put(self, request: Sequence[Entry]) -> None:
        """Make one request; if it fails as a whole by the fault of one of its entries, halves of it."""
        entries = [one for one in request if one.event.session_id not in self.held_up]
        if not entries:
            return
        fields, put_events = [one.fields for one in entries], self.clients.events.put_events
        try:
            answers: list[dict[str, Any]] = await in_daemon_thread(lambda: put_events(Entries=fields)["Entries"])
        except Exception as error:  # noqa: BLE001 - time-outs, refusals, garbage: all are logged and judged
            await self._put_halves(entries, read_failure(error, self.clients.secrets()))
            return
        missing: list[dict[str, Any]] = [{}] * max(0, len(entries) - len(answers))  # an emulator's answer may be short
        for entry, answer in zip(entries, [*answers, *missing], strict=False):
            result = read_result(answer)
            about = {**log_fields(entry.event, self.settings.source), "detail_bytes": entry.detail_bytes}
            if result.outcome is Outcome.SENT:
                self.results[entry.place] = result
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
            await self.put(entries[:half])
            await self.put(entries[half:])
            return
        outcome = Outcome.REJECTED if failure.blames_entry else Outcome.RETRY
        for one in entries:
            self._fail(one.place, Result(outcome, f"EventBridge: {failure.code}"))
