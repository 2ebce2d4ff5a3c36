"""Whether a connection's session is set aside: told to its client, and at the end nobody waits for its transcript."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edge import errors
from edge.errors import ErrorCode, error_message
from edge.websocket import messages

if TYPE_CHECKING:
    from edge.metrics import EdgeMetrics
    from edge.websocket.outbox import Outbox


class QuarantineStatus:
    """What the feed says of a session's standing."""

    def __init__(self, outbox: Outbox, metrics: EdgeMetrics, ended: asyncio.Event) -> None:
        """Tell through `outbox`; `ended` is set as well while the session is set aside."""
        self._outbox = outbox
        self._metrics = metrics
        self._ended = ended
        self.is_aside = False

    @property
    def failure(self) -> ErrorCode:
        """What a client is told of a session that has failed."""
        return errors.QUARANTINED if self.is_aside else errors.INVALID_AUDIO

    def pass_on(self, body: str) -> bool:
        """Send an event of the feed to the client, in its words; False if it is too slow for that."""
        standing = messages.standing(body)
        if standing is None:
            return self._outbox.post(body)
        self.is_aside = bool(standing)
        if not standing:
            self._ended.clear()
            return True
        self._ended.set()
        self._metrics.trouble(errors.QUARANTINED)
        return self._outbox.post(error_message(errors.QUARANTINED, standing))
