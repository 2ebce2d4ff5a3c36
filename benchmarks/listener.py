"""One simulated speaker: a WebSocket that sends paced frames and records the times of the answers."""

import asyncio
import time
from typing import Any

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from benchmarks.frame_pacer import FramePacer
from benchmarks.speech import FRAME_MS, FRAME_SAMPLES, RATE_HZ
from benchmarks.stability import changed_words
from processor.speech import SegmenterSettings

MUTED_AFTER_FRAMES = 30
"""Three seconds: amid a word of the first sentence."""

PREROLL_S = SegmenterSettings().preroll_ms / 1000

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
        self.finals_at: list[tuple[float, float]] = []
        """When each final came, and how late."""
        self.first_partial_s: list[float] = []
        self.stable_words = self.changed_words = 0
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
        self._partial: dict[str, Any] | None = None

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
                if self._partial is None:
                    # The first voiced frame lies behind the pre-roll.
                    self._record(message["start"] + PREROLL_S, now, self._window.first_partial_s)
                self._partial = message
            case "final":
                late_s = self._record(message["decided"], now, self._window.final_s)
                self.worst_s = max(self.worst_s, late_s)
                if late_s:
                    self._window.finals_at.append((now, late_s))
                self._compare(message["text"])
                self.finals.append(message)
            case "session_start":
                self.slot = self._pacer.join(self)
                self.started.set()
            case "session_end":
                self.end = message
            case "error":
                self.errors.append(message["code"])

    def _compare(self, final: str) -> None:
        """Count the words that the last partial before a final called stable, and those that the final changed."""
        if self._partial is not None and (stable := self._partial["text"][: self._partial.get("stable", 0)]):
            changed, words = changed_words(stable, final)
            self._window.changed_words += changed
            self._window.stable_words += words
        self._partial = None

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


class MutedSpeaker(Speaker):
    """One that stops sending amid a word, and says nothing of it.

    Attributes:
        partials_after: Partials that came for what it had said by then.
        final_after_s: From its last frame to its first final; None if none came.
    """

    def __init__(self, pacer: FramePacer, window: Window, cut: list[bytes]) -> None:
        """Will speak `MUTED_AFTER_FRAMES` frames of `cut`."""
        super().__init__(pacer, window, cut, place=0)
        self.partials_after = 0
        self.final_after_s: float | None = None
        self._muted_at = 0.0

    def send_frame(self, number: int) -> None:
        """Send a frame, or nothing once it is muted."""
        if number < MUTED_AFTER_FRAMES:
            super().send_frame(number)
            self._muted_at = time.perf_counter()

    def _take(self, message: dict[str, Any], now: float) -> None:
        if self._muted_at and message["type"] == "partial":
            self.partials_after += now > self._muted_at + 2 * FRAME_MS / 1000
        elif self._muted_at and message["type"] == "final" and self.final_after_s is None:
            self.final_after_s = now - self._muted_at
        super()._take(message, now)


class BurstSpeaker(Speaker):
    """A client that was cut off for minutes, and sends all that it has at once.

    Attributes:
        done_s: From the first frame to its transcript; None until that is there.
    """

    def __init__(self, pacer: FramePacer, window: Window, cut: list[bytes], seconds: float) -> None:
        """Will send so many seconds of `cut`."""
        super().__init__(pacer, window, cut, place=0)
        self.done_s: float | None = None
        self._frames = int(1000 * seconds) // FRAME_MS
        self._begun_at = 0.0

    def begin(self) -> None:
        """Send everything, and the end."""
        self._begun_at = time.perf_counter()
        for number in range(self._frames):
            super().send_frame(number)
        self.finish()

    def _take(self, message: dict[str, Any], now: float) -> None:
        match message["type"]:
            case "session_start":
                self.started.set()
            case "session_end":
                self.end, self.done_s = message, now - self._begun_at
            case "error":
                self.errors.append(message["code"])
