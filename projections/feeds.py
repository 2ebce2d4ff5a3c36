"""`feeds`: real-time events, in a Stream for whoever catches up and over the partition's channel for the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventlog.positions import OPENED, START
from eventlog.projection.operations import Op, add, publish
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from projections.projection import Batch, Command
from projections.public_json import event

MAX_EVENTS = 10_000
"""Hours of finals; a listener further behind starts anew."""


class Feeds:
    """One event per fact after the first, under the fact's own id; each names the id before it, so that a gap shows."""

    name = "feeds"
    gather_s = 0.005
    """Captions: somebody waits for each, but doesn't notice 5 ms, and at a hundred finals a second they save rounds."""

    def __init__(self, *, max_events: int = MAX_EVENTS) -> None:
        """Keep about `max_events` events of each run."""
        self._max_events = max_events

    def reads(self, batch: Batch) -> Sequence[Command]:  # noqa: ARG002 - the protocol's signature
        """Nothing."""
        return ()

    def fold(self, batch: Batch, answers: Sequence[Any]) -> list[Op]:  # noqa: ARG002 - as above
        """Add each event and publish it."""
        ops: list[Op] = []
        # The first fact makes no event, so the first event follows nothing.
        previous = str(START if batch.after == OPENED else batch.after)
        for position, fact in batch.facts:
            if position == OPENED:
                continue
            body, entry_id = event(fact), str(position)
            # One without a body only moves the listeners on, so that what follows it shows no gap.
            message = FeedMessage(FeedKind.EVENT, batch.keys.member, entry_id, previous, (body or b"").decode())
            if body is not None:
                ops.append(add(batch.keys.feed, entry_id, {"event": body}, most=self._max_events))
            ops.append(publish(batch.keys.partition.feed_channel, encode_message(message)))
            previous = entry_id
        return ops
