"""One call of the sink: its events checked, stored if too long, sent, and the answers judged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from projections.eventbridge import entries
from projections.eventbridge.bodies import fault
from projections.eventbridge.client import Clients, EventBridgeSettings
from projections.eventbridge.entries import Prepared
from projections.eventbridge.log_fields import lengths, log_trouble, named
from projections.eventbridge.responses import Trouble, trouble_of, verdict_of
from projections.eventbridge.threads import in_daemon_thread
from projections.forwarding.sink import Outcome, Outgoing, Verdict
from projections.integration_events import Kind

logger = logging.getLogger(__name__)

_HELD = Verdict(Outcome.LATER, "an earlier event of the session was not taken")


class Sending:
    """One call of `EventBridge.send`."""

    def __init__(self, settings: EventBridgeSettings, clients: Clients, events: Sequence[Outgoing]) -> None:
        self._settings = settings
        self._clients = clients
        self._events = events
        self._verdicts: dict[int, Verdict] = {}
        self._held: set[str] = set()  # sessions one of whose events was not taken

    async def made(self) -> list[Verdict]:
        """All verdicts, in order."""
        ready = [one for place in range(len(self._events)) if (one := await self._prepared(place))]
        for group in entries.groups(ready, self._settings.max_bytes):
            await self._put([one for one in group if not self._is_held(one.place)])
        return [self._verdicts[place] for place in range(len(self._events))]

    def _is_held(self, place: int) -> bool:
        if self._events[place].event.session_id not in self._held:
            return False
        self._verdicts.setdefault(place, _HELD)
        return True

    def _decide(self, place: int, verdict: Verdict) -> None:
        self._verdicts[place] = verdict
        if verdict.outcome is not Outcome.SENT:
            self._held.add(self._events[place].event.session_id)

    async def _prepared(self, place: int) -> Prepared | None:
        """The entry of an event, its body stored if it is too long; None if its verdict is known by now."""
        event = self._events[place].event
        if self._is_held(place):
            return None
        if reason := fault(event.kind, event.body):
            self._refuse(place, reason)
            return None
        one = self._entry(place, event.body)
        if entries.size_bytes(one.entry) <= self._settings.max_bytes:
            return one
        if self._settings.bucket and event.kind is Kind.BATCH_COMPLETED:
            return await self._by_reference(place)
        more = "" if self._settings.bucket else ", and no bucket is set for such"
        self._refuse(place, f"the event is above EventBridge's size limit{more}")
        return None

    def _entry(self, place: int, body: dict[str, Any]) -> Prepared:
        event = self._events[place].event
        return entries.prepared(place, event, body, source=self._settings.source, bus_name=self._settings.bus_name)

    async def _by_reference(self, place: int) -> Prepared | None:
        event = self._events[place].event
        held = entries.stored(event, self._settings.bucket_prefix)
        body = entries.referring(event, self._settings.bucket, held)
        if reason := fault(event.kind, body):
            self._refuse(place, reason)
            return None
        try:
            await in_daemon_thread(lambda: self._clients.put_object(held))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the event comes again
            trouble = trouble_of(error, self._clients.secrets())
            log_trouble("event not stored in S3", trouble, [self._named(place)])
            self._decide(place, Verdict(Outcome.LATER, f"S3: {trouble.code}"))
            return None
        logger.info("event stored in S3", extra={**self._named(place), "object_bytes": len(held.content)})
        return self._entry(place, body)

    def _refuse(self, place: int, reason: str) -> None:
        self._decide(place, Verdict(Outcome.NEVER, reason))
        logger.error("event can't be forwarded", extra={
            **self._named(place), **lengths(self._events[place].event), "reason": reason,
        })  # fmt: skip

    async def _put(self, group: Sequence[Prepared]) -> None:
        """One request; where one of its entries may be to blame for its failure, halves of it, down to single ones."""
        if not group:
            return
        try:
            answers = await in_daemon_thread(lambda: self._clients.put_events([one.entry for one in group]))
        except Exception as error:  # noqa: BLE001 - time-outs, refusals, garbage: all are told and judged
            await self._failed(group, trouble_of(error, self._clients.secrets()))
            return
        missing: list[dict[str, Any]] = [{}] * max(0, len(group) - len(answers))  # an emulator's answer may be short
        for one, answer in zip(group, [*answers, *missing], strict=False):
            self._answered(one, answer)

    def _answered(self, one: Prepared, answer: dict[str, Any]) -> None:
        verdict = verdict_of(answer)
        self._decide(one.place, verdict)
        told = {**self._named(one.place), "detail_bytes": one.detail_bytes}
        if verdict.outcome is Outcome.SENT:
            logger.info("event forwarded", extra={**told, "aws_event_id": str(answer.get("EventId"))})
        else:
            logger.warning("event not forwarded", extra={
                **told, "outcome": verdict.outcome.value, "reason": verdict.reason,
            })  # fmt: skip

    async def _failed(self, group: Sequence[Prepared], trouble: Trouble) -> None:
        log_trouble("EventBridge did not take a request", trouble, [
            {**self._named(one.place), "detail_bytes": one.detail_bytes} for one in group
        ])  # fmt: skip
        if trouble.blame and len(group) > 1:
            half = len(group) // 2
            await self._put(group[:half])
            await self._put(group[half:])
            return
        outcome = Outcome.NEVER if trouble.blame else Outcome.LATER
        for one in group:
            self._decide(one.place, Verdict(outcome, f"EventBridge: {trouble.code}"))

    def _named(self, place: int) -> dict[str, str]:
        return named(self._events[place].event, self._settings.source)
