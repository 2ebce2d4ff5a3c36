"""One simulated speaker: a WebSocket that sends paced frames and records the times of the answers."""

import asyncio
import time
from typing import Any

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from benchmarks.frame_pacer import FramePacer
from benchmarks.speech import FRAME_SAMPLES, RATE_HZ

_ACK = b'{"type":"ack"'
_decode = msgspec.json.Decoder().decode


class Window:
    """The measured part of a run; frames sent outside of it aren't counted."""

    def __init__(self) -> None:
        """Nothing is measured until the window opens."""
        self.opened = self.closed = float("inf")
        self.ack_s: list[float] = []
        self.partial_s: list[float] = []
        self.final_s: list[float] = []
        self.frames = 0

    def holds(self, sent: float) -> bool:
        """Whether something sent at that time counts."""
        return self.opened <= sent <= self.closed


class Speaker(WSListener):
    """One session."""

    def __init__(self, pacer: FramePacer, window: Window, cut: list[bytes], place: int) -> None:
        """Will speak the frames of `cut` from number `place` on."""
        self.first_turn = 0
        self.last_turn = 1 << 62
        self.finals: list[dict[str, Any]] = []
        self.worst_s = 0.0
        """The longest that any final took."""
        self.end: dict[str, Any] | None = None
        self.errors: list[str] = []
        self.started = asyncio.Event()
        self.over = asyncio.Event()
        self.place = place
        self.slot = -1
        self._pacer = pacer
        self._window = window
        self._cut = cut
        self._transport: WSTransport | None = None

    @property
    def frames_sent(self) -> int:
        """How many frames it has sent, once it is over."""
        return self.last_turn - self.first_turn

    def send_frame(self, number: int) -> None:
        """Send a frame."""
        if self._transport is not None:
            self._window.frames += 1
            self._transport.send(WSMsgType.BINARY, self._cut[(self.place + number) % len(self._cut)])

    def finish(self) -> None:
        """End the session."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, b'{"type":"stop"}')

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Note the connection; speaking begins at the server's word."""
        self._transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - the library's signature
        """Note that nothing more will come."""
        self._transport = None
        if self.end is None:
            self.errors.append("disconnected")
        self.started.set()
        self.over.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take in one message."""
        now = time.perf_counter()
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_bytes()
        if payload.startswith(_ACK):
            sent = self._sent(int(payload[payload.rfind(b":") + 1 : -1]))
            if self._window.holds(sent):
                self._window.ack_s.append(now - sent)
        else:
            self._take(_decode(payload), now)

    def _take(self, message: dict[str, Any], now: float) -> None:
        match message["type"]:
            case "partial":
                self._record(message["end"], now, self._window.partial_s)
            case "final":
                self.worst_s = max(self.worst_s, self._record(message["decided"], now, self._window.final_s))
                self.finals.append(message)
            case "session_start":
                self.slot = self._pacer.join(self)
                self.started.set()
            case "session_end":
                self.end = message
            case "error":
                self.errors.append(message["code"])

    def _record(self, position_s: float, now: float, latencies: list[float]) -> float:
        """Count the time since the sample at that position was sent, if it was sent in the window; returns it."""
        sent = self._sent(round(position_s * RATE_HZ))
        if not self._window.holds(sent):
            return 0.0
        latencies.append(now - sent)
        return now - sent

    def _sent(self, position_samples: int) -> float:
        """When the last sample before that position was sent."""
        times = self._pacer.times[self.slot]
        return times[min(self.first_turn + max(0, position_samples - 1) // FRAME_SAMPLES, len(times) - 1)]
