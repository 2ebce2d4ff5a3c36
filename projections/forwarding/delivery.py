"""One call of a sink: makes the events, hands them over, and says what became of each."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server
from projections.forwarding.event_batches import Due, Lane
from projections.forwarding.fact_reader import UnreadableFactError, read_finals
from projections.forwarding.sink import Outcome, Outgoing, Sink, Verdict
from projections.integration_events import make_event

FINALS_ON_LOOP = 64
"""Utterances whose text is cleaned between two looks at anything else, some milliseconds; more of them in a thread."""

CALL_S = 120.0
"""A sink bounds its own requests, at some ten seconds each; this frees its place if one of them hangs for good."""

_log = logging.getLogger(__name__)


class Parcel(NamedTuple):
    """The first events of a lane, as many as went into the call."""

    lane: Lane
    due: Sequence[Due]


class Answer(NamedTuple):
    """What became of a parcel's events; None if the call wasn't made."""

    parcel: Parcel
    verdicts: Sequence[Verdict] | None


async def call(
    server: Server, sink: Sink, parcels: Sequence[Parcel], may_send: Callable[[Lane], bool]
) -> list[Answer]:
    """Tell `sink`; parcels whose lane no longer `may_send` when the events are made aren't handed over."""
    made: list[tuple[Parcel, list[Outgoing | Verdict]]] = []
    unmade: list[Answer] = []
    for parcel in parcels:
        try:
            made.append((parcel, await _made(server, parcel)))
        except LogUnavailableError:
            unmade.append(Answer(parcel, None))
    unmade += [Answer(parcel, None) for parcel, _ in made if not may_send(parcel.lane)]
    ready = [one for one in made if may_send(one[0].lane)]
    outgoing = [event for _, events in ready for event in events if isinstance(event, Outgoing)]
    verdicts = iter(await _sent(sink, outgoing) if outgoing else ())
    return unmade + [
        Answer(parcel, [next(verdicts) if isinstance(event, Outgoing) else event for event in events])
        for parcel, events in ready
    ]


async def _made(server: Server, parcel: Parcel) -> list[Outgoing | Verdict]:
    lane = parcel.lane
    try:
        if lane.finals is None and any(due.kind.needs_finals for due in parcel.due):
            lane.finals = await read_finals(server, lane.keys)
    except UnreadableFactError as error:
        return [Verdict(Outcome.NEVER, str(error))] * len(parcel.due)
    if lane.finals is not None and len(lane.finals) > FINALS_ON_LOOP:
        return await asyncio.to_thread(_events, parcel)
    return _events(parcel)


def _events(parcel: Parcel) -> list[Outgoing | Verdict]:
    return [_event(parcel.lane, due) for due in parcel.due]


def _event(lane: Lane, due: Due) -> Outgoing | Verdict:
    try:
        assert lane.opened is not None  # noqa: S101 - without it there are no events
        event = make_event(due.kind, lane.keys, lane.opened, (due.position, due.fact), lane.finals or ())
    except Exception as error:  # noqa: BLE001 - a defect costs one event; its text could quote the transcript
        return Verdict(Outcome.NEVER, type(error).__name__)
    return Outgoing(lane.keys, due.position, event)


async def _sent(sink: Sink, events: Sequence[Outgoing]) -> Sequence[Verdict]:
    try:
        async with asyncio.timeout(CALL_S):
            verdicts = list(await sink.send(events))
    except TimeoutError:
        return [Verdict(Outcome.LATER, f"no answer within {CALL_S:g} s")] * len(events)
    except Exception as error:  # noqa: BLE001 - sinks raise nothing; one with a defect is tried again like one that is away
        # Type and stack alone: the message could quote what was to be sent.
        stack = "".join(traceback.format_tb(error.__traceback__))
        _log.error(
            "sink failed by a defect", extra={"sink": sink.name, "error": type(error).__name__, "stack": stack}
        )
        return [Verdict(Outcome.LATER, type(error).__name__)] * len(events)
    if len(verdicts) != len(events):
        _log.error("sink answered for another number of events", extra={"sink": sink.name})
        return [Verdict(Outcome.LATER, "no verdict")] * len(events)
    return verdicts
