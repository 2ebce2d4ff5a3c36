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
"""A sink bounds its own requests, at some ten seconds each; this frees its slot if one of them hangs forever."""

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
            made.append((batch, await asyncio.to_thread(make_events, batch, count) if is_long
                         else make_events(batch, count)))  # fmt: skip
    ready = []
    for batch, found in made:
        if may_send(batch.keys.partition):
            ready.append((batch, found))
        else:
            delivered.append((batch, None))
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
