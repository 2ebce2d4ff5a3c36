"""The part of an edge that its WebSockets use; `edge.core.EdgeCore` has it."""

from __future__ import annotations

from typing import Protocol

from edge.metrics import EdgeMetrics
from edge.session.append_batcher import AppendBatcher
from edge.session.offered_abilities import OfferedAbilities
from edge.session.pause_watch import PauseWatch
from edge.session.reservations import Reservation
from edge.session.session_closer import SessionCloser
from edge.settings import EdgeSettings
from edge.streams.fan_out import FanOut
from eventlog.keys import RunKeys
from eventlog.redis.redis_log import RedisLog


class ConnectionHost(Protocol):
    """What one connection uses."""

    settings: EdgeSettings
    metrics: EdgeMetrics
    log: RedisLog
    batcher: AppendBatcher
    fanout: FanOut
    abilities: OfferedAbilities
    pauses: PauseWatch
    closer: SessionCloser

    async def release(self, reservation: Reservation) -> None:
        """Free an ended session's reservation."""
        ...

    async def read_transcript(self, keys: RunKeys) -> str | None:
        """Read the stitched transcript's text; None before it is stitched."""
        ...
