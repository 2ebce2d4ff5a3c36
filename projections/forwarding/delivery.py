"""One call of a sink: makes the events, hands them over, and returns the result of each."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Sequence
from functools import partial
from itertools import islice

from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server
from projections.forwarding.event_batches import Batch
from projections.forwarding.fact_reader import UnreadableFactError, read_finals
from projections.forwarding.partition_assignment import PartitionAssignment
from projections.forwarding.sink import Outcome, Result, Sink
from projections.integration_events import Event, make_event

FINALS_ON_LOOP = 64
"""Utterances whose text is cleaned on the event loop, for some milliseconds; more of them in a thread."""

CALL_S = 120.0
"""A sink bounds its own requests, at some ten seconds each; this frees its slot if one of them hangs forever."""

Delivered = tuple[Batch, Sequence[Result] | None]
"""A batch and the results of its first events; None if the call wasn't made."""

_log = logging.getLogger(__name__)


async def deliver(
    server: Server, sink: Sink, batches: Sequence[tuple[Batch, int]], assignment: PartitionAssignment,
    *, with_words: bool,
) -> list[Delivered]:  # fmt: skip
    """Send the first events of each batch in one call; a batch whose claim is stale by then isn't handed over."""
    make = partial(make_event, with_words=with_words)
    made: list[tuple[Batch, list[Event | Result]]] = []
    delivered: list[Delivered] = []
    for batch, count in batches:
        found: list[Event | Result] = []
        for pending in list(islice(batch.pending, count)):
            position, fact, kind = pending[1:]
            try:
                if kind.needs_finals and batch.finals is None:
                    batch.finals = await read_finals(server, batch.keys)
                finals = batch.finals or ()
                assert batch.opened is not None  # noqa: S101 - without it a batch has no events
                of = kind, batch.keys, batch.opened, (position, fact), finals
                is_long = kind.needs_finals and len(finals) > FINALS_ON_LOOP
                found.append(await asyncio.to_thread(make, *of) if is_long else make(*of))
            except LogUnavailableError:
                delivered.append((batch, None))
                break
            except Exception as error:  # noqa: BLE001 - a defect costs one event; its text could quote the transcript
                reason = str(error) if isinstance(error, UnreadableFactError) else type(error).__name__
                found.append(Result(Outcome.REJECTED, reason))
        else:
            made.append((batch, found))
    sendable = assignment.sendable
    ready = [(batch, found) for batch, found in made if batch.keys.partition in sendable]
    delivered += [(batch, None) for batch, _ in made if batch.keys.partition not in sendable]
    events = [one for _, found in ready for one in found if isinstance(one, Event)]
    try:
        async with asyncio.timeout(CALL_S):
            answers = await sink.send(events) if events else ()
        results = [result for _, result in zip(events, answers, strict=True)]
    except TimeoutError:
        results = [Result(Outcome.RETRY, f"no answer within {CALL_S:g} s")] * len(events)
    except Exception as error:  # noqa: BLE001 - sinks raise nothing; one with a defect is retried like one that is away
        # Type and stack alone: the message could quote the events.
        name, stack = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
        _log.error("sink failed by a defect; retrying", extra={"sink": sink.name, "error": name, "stack": stack})
        results = [Result(Outcome.RETRY, name)] * len(events)
    each = iter(results)
    delivered += [(batch, [next(each) if isinstance(one, Event) else one for one in found]) for batch, found in ready]
    return delivered
