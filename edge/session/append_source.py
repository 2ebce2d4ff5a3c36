"""One session as the append batcher sees it, and the log as an edge uses it."""

from __future__ import annotations

import logging
from typing import Protocol

from edge.session.uplink import Uplink
from eventlog.keys import SessionKeys
from eventlog.log import EventLog

logger = logging.getLogger(__name__)


class AppendLog(EventLog, Protocol):
    """The log as the edge uses it: with activity that is no audio."""

    async def touch(self, touches: list[tuple[SessionKeys, int]]) -> None:
        """Record activity for each (session, epoch)."""
        ...


class AppendObserver:
    """The connection behind a source; every method that it does not override does nothing. None of them may block."""

    __slots__ = ()

    def on_settled(self, has_moved: bool) -> None:  # noqa: FBT001 - a callback's only argument
        """The log answered; `has_moved` if more is durable than before."""

    def on_stalled(self, seconds: float) -> None:
        """The log has taken nothing for `seconds`."""

    def on_defect(self) -> None:
        """A defect hit this session alone; no more of it is appended."""


_DETACHED = AppendObserver()


class AppendSource:
    """One session's uplink at the batcher, and its connection."""

    __slots__ = ("failing_since", "is_abandoned", "is_queued", "observer", "touched_at", "uplink")

    def __init__(self, uplink: Uplink, observer: AppendObserver) -> None:
        """Report to `observer` how the appends of `uplink` went."""
        self.uplink = uplink
        self.observer = observer
        self.is_queued = False
        self.is_abandoned = False
        """The connection is gone; the rest of its audio is still appended, unless Redis stays away."""
        self.failing_since = 0.0
        self.touched_at = 0.0

    def detach(self) -> None:
        """Report to no observer from now on, so that no reference leads back to the connection."""
        self.observer = _DETACHED

    def fail(self, error: Exception) -> None:
        """Log `error` as a defect that this session caused, and end its connection."""
        extra = {"session_id": self.uplink.keys.session_id}
        logger.error("session failed by a defect", exc_info=error, extra=extra)
        self.observer.on_defect()
