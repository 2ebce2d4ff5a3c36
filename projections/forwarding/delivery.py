"""One call of a sink: makes the events, hands them over, and returns the result of each."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Sequence
from itertools import islice

from eventlog.keys import PartitionKeys
from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server
from projections.forwarding.event_batches import Batch, make_events
from projections.forwarding.fact_reader import UnreadableFactError, read_finals
from projections.forwarding.sink import Outcome, Result, Sink
from projections.integration_events import Event

FINALS_ON_LOOP = 64
"""Utterances whose text is cleaned on the event loop, for some milliseconds; more of them in a thread."""

CALL_S = 120.0
"""A sink bounds its own requests, at some ten seconds each; this frees its place if one of them hangs for good."""

Delivered = tuple[Batch, Sequence[Result] | None]
"""A batch and the results of its first events; None if the call wasn't made."""

_log = logging.getLogger(__name__)


async def deliver(
    server: Server, sink: Sink, batches: Sequence[tuple[Batch, int]], may_send: Callable[[PartitionKeys], bool]
) -> list[Delivered]:
    """Send the first events of each batch in one call; a batch that no longer `may_send` then isn't handed over."""
    made: list[tuple[Batch, list[Event | Result]]] = []
    delivered: list[Delivered] = []
    for batch, count in batches:
        try:
            if batch.finals is None and any(one.kind.needs_finals for one in islice(batch.pending, count)):
                batch.finals = await read_finals(server, batch.keys)
        except UnreadableFactError as error:
            made.append((batch, [Result(Outcome.REJECTED, str(error))] * count))
        except LogUnavailableError:
            delivered.append((batch, None))
        else:
            is_long = batch.finals is not None and len(batch.finals) > FINALS_ON_LOOP
            events = await asyncio.to_thread(make_events, batch, count) if is_long else make_events(batch, count)
            made.append((batch, events))
    ready = []
    for batch, found in made:
        if may_send(batch.keys.partition):
            ready.append((batch, found))
        else:
            delivered.append((batch, None))
    results = iter(await _send(sink, [one for _, found in ready for one in found if isinstance(one, Event)]))
    delivered += [
        (batch, [next(results) if isinstance(one, Event) else one for one in found]) for batch, found in ready
    ]
    return delivered


async def _send(sink: Sink, events: Sequence[Event]) -> Sequence[Result]:
    if not events:
        return ()
    try:
        async with asyncio.timeout(CALL_S):
            results = list(await sink.send(events))
    except TimeoutError:
        return [Result(Outcome.RETRY, f"no answer within {CALL_S:g} s")] * len(events)
    except Exception as error:  # noqa: BLE001 - sinks raise nothing; one with a defect is retried like one that is away
        # Type and stack alone: the message could quote the events.
        stack = "".join(traceback.format_tb(error.__traceback__))
        about = {"sink": sink.name, "error": type(error).__name__, "stack": stack}
        _log.error("sink failed by a defect; retrying", extra=about)
        return [Result(Outcome.RETRY, type(error).__name__)] * len(events)
    if len(results) != len(events):
        _log.error("sink returned a wrong number of results; retrying", extra={"sink": sink.name})
        return [Result(Outcome.RETRY, "no result")] * len(events)
    return results
