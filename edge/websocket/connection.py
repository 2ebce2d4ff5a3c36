"""One WebSocket connection: frames in, appends out, feed events back."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from edge import errors
from edge.errors import ApiError, ErrorCode, error_message
from edge.server.fast_path import FastPath
from edge.session.append_source import AppendObserver, AppendSource
from edge.session.lifecycle import Input, State, step
from edge.session.opener import Session
from edge.session.uplink import BYTES_PER_SAMPLE, Seal, Uplink, frame_bytes_of
from edge.streams.fan_out import FeedCursor, Subscriber
from edge.websocket import messages
from edge.websocket.catch_up import CatchUp
from edge.websocket.epoch_renewal import renew_epoch
from edge.websocket.host import ConnectionHost
from edge.websocket.outbox import Outbox
from edge.websocket.presence import Presence
from edge.websocket.session_result import SessionResult
from eventlog.events import CONTAINER, Finalized, OptionsChanged
from eventlog.log import Code
from eventlog.positions import START, Position

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

CLOSE_TIMEOUT_S = 10.0
"""For a client to read the last messages and answer the close; then its socket is cut."""

MAX_ERRORS = 20
"""Invalid messages on one connection before it is closed: a broken client sends them forever, a slip never so many."""

CONTAINER_ACK_BYTES = 4096
"""Of a container between two acks: some 250 ms of what browsers record."""

_OPEN = frozenset({State.CREATED, State.ACTIVE})

_REFUSALS: dict[Code, tuple[ErrorCode, str]] = {
    Code.GONE: (errors.SESSION_GONE, "the session is gone"),
    Code.SUPERSEDED: (errors.SUPERSEDED, "a newer connection has resumed the session"),
}


class Connection(Subscriber, AppendObserver):
    """A session's connection, from `session_start` to the close."""

    def __init__(
        self, host: ConnectionHost, session: Session, receive: Receive, outbox: Outbox, fast_path: FastPath
    ) -> None:
        """Serve `session`, which has its reservation."""
        settings, start = host.settings, session.start
        self.session = session
        self.state = State.CREATED
        self.outbox = outbox
        self._host = host
        self._receive = receive
        self._fast_path = fast_path
        self._max_frame_bytes = settings.max_frame_bytes
        self._max_unacked_bytes = settings.max_unacked_bytes
        self._enqueue = host.batcher.enqueue
        frame_bytes = frame_bytes_of(start)
        # A container's own rate is unknown; what it decodes to is more.
        bytes_per_s = start.sample_rate_hz * (start.channels or 2) * BYTES_PER_SAMPLE
        self.uplink = Uplink(
            session.stream, session.epoch, session.head,
            frame_bytes=frame_bytes, resend_buffer_bytes=int(settings.resend_buffer_s * bytes_per_s),
        )  # fmt: skip
        self.source = AppendSource(self.uplink, self)
        self._is_container = start.encoding == CONTAINER
        self._presence = Presence(
            host, session, self.source, bytes_per_s=0 if self._is_container else bytes_per_s, now=time.monotonic()
        )
        self.cursor = FeedCursor(session.keys.run(), START, self)
        ack_samples = int(settings.ack_interval_ms * start.sample_rate_hz / 1000)
        self._ack_samples = CONTAINER_ACK_BYTES if self._is_container else ack_samples
        limit_samples = int(settings.max_session_s * start.sample_rate_hz)
        # The duration of a container is its decoder's to find out.
        self._max_bytes = (
            sys.maxsize if self._is_container else max(0, limit_samples - session.head.offset) * frame_bytes
        )
        self._ack_s = settings.ack_interval_ms / 1000
        outbox.acked_samples = self.uplink.acked_samples
        self._moved_at = 0.0
        self._may_read = asyncio.Event()
        self._is_paused = False
        """The socket is read no further until the log has taken more."""
        self._errors = 0
        self._is_too_long = False
        self._catch_up = CatchUp(host.fanout, self.cursor, outbox, bound=settings.max_outbox_messages)
        self._result = SessionResult(host.fanout, self.cursor, lambda: host.read_transcript(session.keys.run()))
        self._ending: asyncio.Task[None] | None = None
        self._resuming: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until the client is gone or has every message."""
        session = self.session
        self.outbox.post(messages.encode_session_start(session.start, session.token, session.head.offset))
        try:
            if session.is_resumed:
                await self._catch_up.begin(session.next_utterance)
            self._host.fanout.add(self.cursor)
            disconnect = await self._receive_all()
            if self.state in _OPEN:
                self._presence.leave(disconnect)
        finally:
            self._host.fanout.remove(self.cursor)
            self.source.is_abandoned = True
            self._advance(Input.DISCONNECTED)
            if self._ending:  # it frees the reservation of a session whose client stopped it and left
                await asyncio.wait([self._ending], timeout=self._host.settings.session_end_timeout_s + CLOSE_TIMEOUT_S)
                self._ending.cancel()

    def fail(self, error_code: ErrorCode, message: str) -> None:
        """Send an error and, if it is fatal, close; the session itself can be resumed."""
        if self.state is State.CLOSED:
            return
        self._host.metrics.count_error(error_code)
        if not self.outbox.post(error_message(error_code, message)):
            self._close_slow_consumer()
        elif error_code.fatal:
            self._close(error_code.close, error_code.code)

    def drain(self) -> None:
        """Send the client to another replica: this one shuts down."""
        if self.outbox.acked_samples != self.uplink.acked_samples:
            self.outbox.post_ack(self.uplink.acked_samples)
        self.fail(errors.GOING_AWAY, f"resume elsewhere; durable up to offset {self.uplink.acked_samples}")

    def sweep(self, now: float) -> None:
        """State a pause, send the ack that would wait for a further chunk, and more of what a resume has missed."""
        if self.state in _OPEN:
            self._presence.look(now, self._moved_at)
        if self.outbox.acked_samples != self.uplink.acked_samples and now - self._moved_at >= self._ack_s:
            self.outbox.post_ack(self.uplink.acked_samples)
        if not self._catch_up.advance(now):
            self._close_slow_consumer()

    # From the socket

    async def _receive_all(self) -> MutableMapping[str, Any]:
        """Take all messages up to the disconnect, which is returned."""
        self._fast_path.tap(self.take_audio)
        receive, uplink = self._receive, self.uplink
        while True:
            message = await receive()
            data = message.get("bytes")
            if data is not None:
                self.take_audio(data)
            elif message["type"] == "websocket.disconnect":
                return message
            else:
                self._take_text(message["text"])
            while uplink.unacked_bytes > self._max_unacked_bytes and self.state is not State.CLOSED:
                # The socket's own flow control holds the client back meanwhile.
                self._is_paused = True
                self._may_read.clear()
                await self._may_read.wait()

    def take_audio(self, data: bytes) -> bool:
        """Take a frame; False if no more should come for now. This runs for every frame."""
        size, uplink = len(data), self.uplink
        if (
            self.state is State.ACTIVE
            and size <= self._max_frame_bytes
            and uplink.received_bytes + size <= self._max_bytes
        ):
            uplink.add_audio(data)
            self._enqueue(self.source, size)
        else:
            self._take_unusual_audio(data)
        if uplink.unacked_bytes <= self._max_unacked_bytes:
            return True
        self._is_paused = True
        return False

    def _take_unusual_audio(self, data: bytes) -> None:
        """Take the first frame, one that is too large, one past the longest duration, or one after `stop`."""
        if len(data) > self._max_frame_bytes:
            self._reject(
                errors.FRAME_TOO_LARGE,
                f"a frame has at most {self._max_frame_bytes} bytes; this one of {len(data)} was not taken",
            )
        elif self._advance(Input.AUDIO):
            room = self._max_bytes - self.uplink.received_bytes
            self.uplink.add_audio(data[:room])
            self._enqueue(self.source, len(data))
            if len(data) > room:
                self._is_too_long = True
                self.uplink.add_control(Seal("limit"))
                self._begin_end()

    def _take_text(self, text: str) -> None:
        try:
            kind, changed = messages.read_control(text)
            if changed is not None:
                self._host.abilities.check_change(changed, self.session.start.model)
        except ApiError as error:
            self._reject(error.error, error.message)
            return
        if kind == "start":
            self._reject(errors.ALREADY_STARTED, "the query string carries the options; the session has started")
        elif self._advance(Input(kind)):
            self._take_control(kind, changed)

    def _take_control(self, kind: str, changed: OptionsChanged | None) -> None:
        if kind == "keepalive":
            self._host.batcher.touch(self.source)
        elif changed is not None:
            self.uplink.add_control(changed)
            self._enqueue(self.source, 0)
        elif kind == "stop":
            if odd := self.uplink.misaligned_bytes:
                self.fail(errors.MISALIGNED_AUDIO, f"the audio ended {odd} bytes into a sample; they were dropped")
            self.uplink.add_control(Seal("stop"))
            self._enqueue(self.source, 0)
            self._begin_end()
        elif self._presence.finalize():
            self.uplink.add_control(Finalized())
            self._enqueue(self.source, 0)

    def _advance(self, given: Input) -> bool:
        """Change the state by `given`; False if it is not accepted now."""
        before, (self.state, accepted) = self.state, step(self.state, given)
        if not accepted and before is State.CLOSING:
            self._reject(errors.SESSION_CLOSING, f"{given} came after the end; it was dropped")
        return accepted

    def _reject(self, error_code: ErrorCode, message: str) -> None:
        """Answer an invalid message."""
        self._errors += 1
        if self._errors > MAX_ERRORS:
            self.fail(errors.TOO_MANY_ERRORS, f"more than {MAX_ERRORS} invalid messages")
        else:
            self.fail(error_code, message)

    # From the log

    def on_settled(self, has_moved: bool) -> None:  # noqa: FBT001 - a callback's only argument
        """See `AppendObserver`."""
        uplink = self.uplink
        if has_moved:
            self._moved_at = time.monotonic()
            unreported = uplink.acked_samples - self.outbox.acked_samples
            if unreported and (unreported + uplink.last_chunk_samples > self._ack_samples or uplink.is_sealed):
                self.outbox.post_ack(uplink.acked_samples)
            if self._is_paused and uplink.unacked_bytes <= self._max_unacked_bytes:
                self._resume_reading()
            if uplink.is_sealed:
                self._result.sealed.set()
        if uplink.refusal is not None and self.state is not State.CLOSED:
            self._handle_refusal(uplink.refusal)

    def on_stalled(self, seconds: float) -> None:
        """See `AppendObserver`."""
        if seconds >= self._host.settings.redis_outage_timeout_s:
            durable = self.uplink.acked_samples
            self.fail(errors.LOG_UNAVAILABLE, f"Redis can't be written; durable up to offset {durable}")

    def on_defect(self) -> None:
        """See `AppendObserver`."""
        self.fail(errors.INTERNAL_ERROR, f"a defect of the server; durable up to offset {self.uplink.acked_samples}")

    def _resume_reading(self) -> None:
        self._is_paused = False
        self._may_read.set()
        self._fast_path.resume()

    def _handle_refusal(self, code: Code) -> None:
        if code is Code.SEALED:
            self._result.sealed.set()
            self._begin_end()
        elif code is Code.STALE:
            if self._resuming is None or self._resuming.done():
                self._resuming = asyncio.create_task(self._guarded(self._resume_session()), name="resume")
        else:
            self.fail(*_REFUSALS.get(code, (errors.INTERNAL_ERROR, f"the log answered {code.name}")))

    async def _resume_session(self) -> None:
        """Raise the epoch again after the log lost this connection's own resume in a failover."""
        if not await renew_epoch(self._host, self.session, self.source, lambda: self.state is State.CLOSED):
            self.fail(*_REFUSALS[Code.GONE])

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` of this connection; a defect in it ends the connection, and is never silent."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - of this session alone; `fail` logs it
            self.source.fail(error)

    # From the feed

    def is_full(self) -> bool:
        """See `Subscriber`."""
        return self._catch_up.is_full()

    def on_event(self, position: Position, body: str, *, last: bool) -> None:  # noqa: ARG002 - for others
        """See `Subscriber`."""
        if last:
            self._result.take_end(body)
            self._begin_end()
        elif self.state is not State.CLOSED and not self._forward(body):
            self._close_slow_consumer()
        elif self.session.start.speech_events and (end := messages.encode_utterance_end(body)):
            self.outbox.post(end)

    def _forward(self, body: str) -> bool:
        """Send an event of the feed in the client's terms; False if the client is too slow for it."""
        quarantine = messages.describe_quarantine(body)
        if quarantine is None:
            return self.outbox.post(body)
        self._result.take_quarantine(is_quarantined=bool(quarantine))
        if not quarantine:
            return True
        self._host.metrics.count_error(errors.QUARANTINED)
        return self.outbox.post(error_message(errors.QUARANTINED, quarantine))

    def on_partial(self, body: str) -> None:
        """See `Subscriber`."""
        if self.state is not State.CLOSED:
            self.outbox.post_partial(messages.read_partial_channel(body), body)

    def on_speech(self, body: str) -> None:
        """See `Subscriber`."""
        if self.state is not State.CLOSED:
            self.outbox.post(body)

    def on_document(self) -> None:
        """See `Subscriber`."""
        self._result.take_document()

    def on_superseded(self, epoch: int) -> None:
        """See `Subscriber`."""
        if epoch > self.uplink.epoch:
            self.fail(*_REFUSALS[Code.SUPERSEDED])

    def on_gone(self) -> None:
        """See `Subscriber`."""
        self.fail(*_REFUSALS[Code.GONE])

    def on_reset(self) -> None:
        """See `Subscriber`."""
        if self.state is not State.CLOSED:
            self.outbox.post(messages.RESET)

    # The end

    def _begin_end(self) -> None:
        """Begin the end, by the client or from elsewhere."""
        self._advance(Input.ENDED)
        if self.state is State.CLOSING and self._ending is None:
            self._ending = asyncio.create_task(self._guarded(self._end()), name="session end")

    async def _end(self) -> None:
        # Unbounded here: either the log takes the end, or `on_stalled` closes the connection.
        await self._result.sealed.wait()
        transcript = await self._result.wait_for_transcript(self._host.settings.session_end_timeout_s)
        body = self._result.end_body
        self._host.metrics.count_ended(messages.read_end_reason(body))
        await self._host.release(self.session.reservation)
        if self.state is State.CLOSED:
            return
        start = self.session.start
        url = f"/v1/sessions/{start.session_id}/transcript"
        seconds = 0.0 if self._is_container else self.uplink.acked_samples / start.sample_rate_hz
        close = self._send_end_error()
        self.outbox.post_last(messages.encode_session_end(body, transcript, url, seconds))
        self._advance(Input.FINISHED)
        self._close(*close)

    def _send_end_error(self) -> tuple[int, str]:
        """Send the error that ended the session, if one did; returns close code and reason."""
        reason = "limit" if self._is_too_long else messages.read_end_reason(self._result.end_body)
        found = self._result.find_error(reason, max_session_s=self._host.settings.max_session_s)
        if found is None:
            return 1000, ""
        error_code, message = found
        self._host.metrics.count_error(error_code)
        self.outbox.post_last(error_message(error_code, message))
        return (error_code.close, error_code.code) if error_code.fatal else (1000, "")

    def _close_slow_consumer(self) -> None:
        self._host.metrics.count_error(errors.SLOW_CONSUMER)
        self.outbox.post_last(error_message(errors.SLOW_CONSUMER, "messages come faster than they are read"))
        self._close(errors.SLOW_CONSUMER.close, errors.SLOW_CONSUMER.code)

    def _close(self, code: int, reason: str) -> None:
        self.state = State.CLOSED
        self.outbox.close(code, reason)
        self._fast_path.tap(None)
        self._resume_reading()
        self._result.sealed.set()
        # A client that doesn't read would keep the socket, and what waits in it, for as long as it likes.
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._fast_path.abort)
