"""Whether a socket's client still sends: its pauses, and what becomes of its session when it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.session.append_source import AppendSource
from edge.session.opener import Session
from edge.session.pause_detector import PauseDetector
from edge.websocket.host import ConnectionHost
from eventlog.events import Paused

CLOSED_IN_ORDER = frozenset({1000, 1001, 1005})
"""Close codes of a client that is done: by itself, since its page is left, or without saying why (RFC 6455, 7.4.1)."""


class Presence:
    """One connection's client, as far as it sends."""

    def __init__(
        self, host: ConnectionHost, session: Session, source: AppendSource, *, bytes_per_s: int, now: float
    ) -> None:
        """Watch the client that feeds `source`, from `now` on; `bytes_per_s` is 0 for a container."""
        self._host = host
        self._session = session
        self._source = source
        self._detector = PauseDetector(
            host.settings.pause_ms, bytes_per_s, now, is_open=session.is_resumed and session.head.offset > 0
        )
        self._finalized_at_bytes = -1
        host.pauses.forget(session.stream)

    def finalize(self) -> bool:
        """Note that the client asks for a boundary here; False if no audio has come since it last did."""
        received_bytes = self._source.uplink.received_bytes
        before, self._finalized_at_bytes = self._finalized_at_bytes, received_bytes
        return before != received_bytes

    def look(self, now: float, durable_at: float) -> None:
        """State a pause if frames have stopped; `durable_at` is when the log last took something of the client's."""
        uplink = self._source.uplink
        # While the log takes nothing the socket may not be read: that is no silence of the client's.
        heard_at = durable_at if uplink.unacked_bytes < uplink.frame_bytes else now
        silent_ms = self._detector.look(now, uplink.received_bytes, heard_at)
        if silent_ms and uplink.received_bytes != self._finalized_at_bytes:
            self._pause(silent_ms)

    def leave(self, disconnect: Mapping[str, Any]) -> None:
        """Handle the client's disconnect from a session that it has not stopped.

        After a close in order it will send no more: the utterance ends at once, and the session after its grace. A
        broken connection says nothing, and its client may be about to resume: only the utterance ends, some time later.
        """
        uplink, settings = self._source.uplink, self._host.settings
        is_open = self._detector.has_unreported_audio(uplink.received_bytes)
        is_open = is_open and uplink.received_bytes != self._finalized_at_bytes
        # Without a reason the server reports a connection that broke, whatever the code: a close frame has one.
        if disconnect.get("code") in CLOSED_IN_ORDER and "reason" in disconnect:
            if is_open:
                self._pause(0)
            self._host.closer.add(self._source, self._session.reservation)
        elif is_open and settings.pause_ms:
            within_s = max(settings.pause_ms / 1000, settings.close_grace_s)
            self._host.pauses.expect_behind(self._source, within_s=within_s)

    def _pause(self, silent_ms: int) -> None:
        self._source.uplink.add_control(Paused(silent_ms=silent_ms))
        self._host.batcher.enqueue(self._source, 0)
