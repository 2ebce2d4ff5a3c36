"""`feeds`: real-time events, in a Stream for listeners that catch up, over the partition's channel for the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventlog.positions import OPENED, START
from eventlog.projection.operations import Op, add, publish
from eventlog.projection.projection_log import RunFacts
from eventlog.readmodel.feed import FeedKind, FeedMessage, encode_message
from projections.projection import Command
from projections.public_json import encode_event

MAX_EVENTS = 10_000
"""Hours of finals; a listener further behind starts from the beginning of the feed."""


class Feeds:
    """One event per fact after the first, under the fact's own id; each names the id before it, so that a gap shows."""

    name = "feeds"
    linger_s = 0.005
    """Captions: a viewer waits for each, but doesn't notice 5 ms, and at a hundred finals a second they save rounds."""

    def __init__(self, *, max_events: int = MAX_EVENTS) -> None:
        """Keep about `max_events` events of each run."""
        self._max_events = max_events

    def reads(self, pulled: RunFacts) -> Sequence[Command]:  # noqa: ARG002 - the protocol's signature
        """Nothing."""
        return ()

    def fold(self, pulled: RunFacts, answers: Sequence[Any]) -> list[Op]:  # noqa: ARG002 - as above
        """Add each event and publish it."""
        ops: list[Op] = []
        # The first fact makes no event, so the first event follows nothing.
        previous = str(START if pulled.after == OPENED else pulled.after)
        for position, fact in pulled.facts:
            if position == OPENED:
                continue
            body, entry_id = encode_event(fact), str(position)
            # One without a body only moves the listeners on, so that the next one shows no gap.
            message = FeedMessage(FeedKind.EVENT, pulled.keys.member, entry_id, previous, (body or b"").decode())
            if body is not None:
                ops.append(add(pulled.keys.feed, entry_id, {"event": body}, most=self._max_events))
            ops.append(publish(pulled.keys.partition.feed_channel, encode_message(message)))
            previous = entry_id
        return ops
