"""One WebSocket connection: frames in, appends out, feed events back."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from edge import errors
from edge.errors import ApiError, ErrorCode, error_message
from edge.server.fast_path import FastPath
from edge.session.append_batcher import AppendSource
from edge.session.lifecycle import Input, State, step
from edge.session.opener import Session
from edge.session.quarantine_status import QuarantineStatus
from edge.session.uplink import BYTES_PER_SAMPLE, Seal, Uplink, frame_bytes_of
from edge.streams.fan_out import FeedCursor, Subscriber
from edge.websocket import messages
from edge.websocket.catch_up import CatchUp
from edge.websocket.outbox import Outbox
from eventlog.events import CONTAINER, Finalized
from eventlog.log import Code, LogUnavailableError
from eventlog.positions import START, Position

if TYPE_CHECKING:
    from edge.core import EdgeCore

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

CLOSE_S = 10.0
"""For a client to read what is left and answer the close; then its socket is cut."""

MOST_ERRORS = 20
"""Bad messages on one connection before it is closed: a broken client sends them forever, a slip never so many."""

CONTAINER_ACK_BYTES = 4096
"""Of a container between two acks: some 250 ms of what browsers record."""

LOOK_S = 1.0
"""While the end is awaited the feed is read this often, in case the message about it was lost."""

_OUTCOMES: dict[Code, tuple[ErrorCode, str]] = {
    Code.GONE: (errors.SESSION_GONE, "the session is gone"),
    Code.SUPERSEDED: (errors.SUPERSEDED, "a newer connection has resumed the session"),
}


class Connection(Subscriber):
    """A session's connection, from `session_start` to the close."""

    def __init__(
        self, core: EdgeCore, session: Session, receive: Receive, outbox: Outbox, shortcut: FastPath
    ) -> None:
        """Serve `session`, whose place is already reserved."""
        settings = core.settings
        start = session.start
        self.session = session
        self.state = State.CREATED
        self.outbox = outbox
        self._core = core
        self._receive = receive
        self._shortcut = shortcut
        self._most_frame = settings.max_frame_bytes
        self._most_unacked = settings.max_unacked_bytes
        self._enqueue = core.gatherer.enqueue
        frame_bytes = frame_bytes_of(start)
        # A container's own rate is unknown; what it decodes to is more.
        bytes_per_s = start.sample_rate_hz * (start.channels or 2) * BYTES_PER_SAMPLE
        self.uplink = Uplink(
            session.stream, session.epoch, session.head,
            frame_bytes=frame_bytes, refill_bytes=int(settings.resend_buffer_s * bytes_per_s),
        )  # fmt: skip
        self.feeder = AppendSource(self.uplink, self._settled, self._stalled)
        self.listener = FeedCursor(session.keys.run(), START, self)
        self.acks = 0
        """Acks sent."""
        is_container = start.encoding == CONTAINER
        ack_samples = int(settings.ack_interval_ms * start.sample_rate_hz / 1000)
        self._ack_samples = CONTAINER_ACK_BYTES if is_container else ack_samples
        limit_samples = int(settings.max_session_s * start.sample_rate_hz)
        # Of a container its decoder finds out how long it is.
        self._most_bytes = sys.maxsize if is_container else max(0, limit_samples - session.head.offset) * frame_bytes
        self._ack_s = settings.ack_interval_ms / 1000
        self._told_samples = self.uplink.acked_samples
        self._moved_at = 0.0
        self._room = asyncio.Event()
        self._errors = 0
        self._finalized_at = -1
        self._is_too_long = False
        self._catch_up = CatchUp(core.fanout, self.listener, outbox, bound=settings.max_outbox_messages)
        self._end_body: str | None = None
        self._sealed = asyncio.Event()
        self._ended = asyncio.Event()
        self._documented = asyncio.Event()
        self._standing = QuarantineStatus(outbox, core.metrics, self._ended)
        self._finishing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until the client is gone or has been told everything."""
        session = self.session
        self.outbox.post(
            messages.session_start(
                session.keys.session_id, session.token, session.head.offset, session.start.sample_rate_hz
            )
        )
        try:
            await self._begin_listening()
            await self._receive_all()
        finally:
            self._core.fanout.remove(self.listener)
            self.feeder.abandoned = True
            self._happened(Input.DISCONNECTED)
            await self._finish_alone()

    def fail(self, trouble: ErrorCode, message: str) -> None:
        """Tell the client about `trouble` and, if it is fatal, close; the session itself can be resumed."""
        if self.state is State.CLOSED:
            return
        self._core.metrics.trouble(trouble)
        if not self.outbox.post(error_message(trouble, message)):
            self._too_slow()
        elif trouble.fatal:
            self._closed(trouble.close, trouble.code)

    def leave(self) -> None:
        """Tell the client that this replica shuts down."""
        if self._told_samples != self.uplink.acked_samples:
            self._tell_ack()
        self.fail(errors.GOING_AWAY, f"resume elsewhere; durable up to offset {self.uplink.acked_samples}")

    def tell_what_waits(self, now: float) -> None:
        """Send the ack that waits for a next chunk which doesn't come, and what a resume has missed as it is read."""
        if self._told_samples != self.uplink.acked_samples and now - self._moved_at >= self._ack_s:
            self._tell_ack()
        if not self._catch_up.go_on(now):
            self._too_slow()

    # What the socket brings

    async def _begin_listening(self) -> None:
        if self.session.resumed:
            await self._catch_up.begin(self.session.next_utterance)
        self._core.fanout.add(self.listener)

    async def _receive_all(self) -> None:
        self._shortcut.tap(self._take_audio)
        receive, uplink, most_unacked = self._receive, self.uplink, self._most_unacked
        while True:
            message = await receive()
            data = message.get("bytes")
            if data is not None:
                self._take_audio(data)
            elif message["type"] == "websocket.disconnect":
                return
            else:
                self._take_text(message["text"])
            if uplink.unacked_bytes > most_unacked:
                await self._wait_for_room()

    def _take_audio(self, data: bytes) -> bool:
        """Take a frame; False if no more should come for now. This runs for every frame there is."""
        size = len(data)
        if (
            self.state is State.ACTIVE
            and size <= self._most_frame
            and self.uplink.received_bytes + size <= self._most_bytes
        ):
            self.uplink.add_audio(data)
            self._enqueue(self.feeder, size)
        else:
            self._take_unusual(data)
        return self.uplink.unacked_bytes <= self._most_unacked

    def _take_unusual(self, data: bytes) -> None:
        """The first frame, one that is too large, one past the longest duration, or one after `stop`."""
        if len(data) > self._most_frame:
            self._complain(
                errors.FRAME_TOO_LARGE,
                f"a frame has at most {self._most_frame} bytes; this one of {len(data)} was not taken",
            )
        elif self._happened(Input.AUDIO):
            room = self._most_bytes - self.uplink.received_bytes
            self.uplink.add_audio(data[:room])
            self._enqueue(self.feeder, len(data))
            if len(data) > room:
                self._is_too_long = True
                self.uplink.add_control(Seal("limit"))
                self._finish()

    def _take_text(self, text: str) -> None:
        try:
            kind = messages.read_control(text)
        except ApiError as error:
            self._complain(error.error, error.message)
            return
        if kind == "start":
            self._complain(errors.ALREADY_STARTED, "the query string carries the options; the session has started")
        elif self._happened(Input(kind)):
            self._take_control(kind)

    def _take_control(self, kind: str) -> None:
        if kind == "keepalive":
            self._core.gatherer.touch(self.feeder)
        elif kind == "stop":
            if odd := self.uplink.odd_bytes:
                self.fail(errors.MISALIGNED_AUDIO, f"the audio ended {odd} bytes into a sample; they were dropped")
            self.uplink.add_control(Seal("stop"))
            self._enqueue(self.feeder, 0)
            self._finish()
        elif self._finalized_at != self.uplink.received_bytes:  # a second boundary at the same place is none
            self._finalized_at = self.uplink.received_bytes
            self.uplink.add_control(Finalized())
            self._enqueue(self.feeder, 0)

    def _happened(self, happened: Input) -> bool:
        before, (self.state, accepted) = self.state, step(self.state, happened)
        if not accepted and before is State.CLOSING:
            self._complain(errors.SESSION_CLOSING, f"{happened} came after the end; it was dropped")
        return accepted

    def _complain(self, trouble: ErrorCode, message: str) -> None:
        self._errors += 1
        if self._errors > MOST_ERRORS:
            self.fail(errors.TOO_MANY_ERRORS, f"more than {MOST_ERRORS} bad messages")
        else:
            self.fail(trouble, message)

    async def _wait_for_room(self) -> None:
        """Read no further until the log has taken enough; the socket's own flow control holds the client back."""
        while self.uplink.unacked_bytes > self._most_unacked and self.state is not State.CLOSED:
            self._room.clear()
            await self._room.wait()

    # What the log answers

    def _settled(self, moved: bool) -> None:  # noqa: FBT001 - a callback's only argument
        uplink = self.uplink
        if moved:
            self._moved_at = time.monotonic()
            waiting = uplink.acked_samples - self._told_samples
            if waiting and (waiting + uplink.last_chunk_samples > self._ack_samples or uplink.sealed):
                self._tell_ack()
            if uplink.unacked_bytes <= self._most_unacked:
                self._room.set()
                self._shortcut.resume()
            if uplink.sealed:
                self._sealed.set()
        if uplink.outcome is not Code.OK and self.state is not State.CLOSED:
            self._refused(uplink.outcome)

    def _tell_ack(self) -> None:
        self._told_samples = self.uplink.acked_samples
        self.acks += 1
        self.outbox.post_ack(self._told_samples)

    def _refused(self, code: Code) -> None:
        if code is Code.SEALED:
            self._sealed.set()
            self._finish()
        elif code is Code.STALE:
            self._core.resume_forgotten(self)
        else:
            self.fail(*_OUTCOMES.get(code, (errors.INTERNAL_ERROR, f"the log answered {code.name}")))

    def _stalled(self, seconds: float) -> None:
        if seconds >= self._core.settings.redis_outage_timeout_s:
            self.fail(errors.LOG_UNAVAILABLE, f"Redis can't be written; durable up to offset {self.uplink.acked_samples}")

    # What the feed brings

    def is_full(self) -> bool:
        """See `Subscriber`."""
        return self._catch_up.is_full()

    def on_event(self, position: Position, body: str, *, last: bool) -> None:  # noqa: ARG002 - for others
        """See `Subscriber`."""
        if last:
            self._end_body = body
            self._sealed.set()
            self._ended.set()
            self._finish()
        elif self.state is not State.CLOSED and not self._standing.pass_on(body):
            self._too_slow()

    def on_partial(self, body: str) -> None:
        """See `Subscriber`."""
        if self.state is not State.CLOSED:
            self.outbox.post_partial(messages.partial_channel(body), body)

    def on_document(self) -> None:
        """See `Subscriber`."""
        self._documented.set()

    def on_superseded(self, epoch: int) -> None:
        """See `Subscriber`."""
        if epoch > self.uplink.epoch:
            self.fail(*_OUTCOMES[Code.SUPERSEDED])

    def on_gone(self) -> None:
        """See `Subscriber`."""
        self.fail(*_OUTCOMES[Code.GONE])

    def on_reset(self) -> None:
        """See `Subscriber`."""
        if self.state is not State.CLOSED:
            self.outbox.post(messages.RESET)

    # The end

    def _finish(self) -> None:
        """Begin the end, whoever caused it."""
        self._happened(Input.ENDED)
        if self.state is State.CLOSING and self._finishing is None:
            self._finishing = asyncio.create_task(self._tell_the_end())

    async def _finish_alone(self) -> None:
        """Free the place of a session whose client stopped it and left; if Redis is away, it frees itself."""
        if self._finishing:
            await asyncio.wait([self._finishing], timeout=self._core.settings.session_end_timeout_s + CLOSE_S)
            self._finishing.cancel()

    async def _tell_the_end(self) -> None:
        # Unbounded here: either the log takes the end, or `_stalled` closes the connection.
        await self._sealed.wait()
        transcript = await self._await_transcript()
        self._core.metrics.ended(messages.end_reason(self._end_body))
        await self._core.release(self.session.reservation)
        if self.state is State.CLOSED:
            return
        start = self.session.start
        url = f"/v1/sessions/{start.session_id}/transcript"
        is_container = start.encoding == CONTAINER
        seconds = 0.0 if is_container else self.uplink.acked_samples / start.sample_rate_hz
        close = self._tell_why()
        self.outbox.post_last(messages.session_end(self._end_body, transcript, url, seconds))
        self._happened(Input.FINISHED)
        self._closed(*close)

    def _tell_why(self) -> tuple[int, str]:
        """Tell what made the end come, if it wasn't asked for; returns how to close."""
        match "limit" if self._is_too_long else messages.end_reason(self._end_body):
            case "failed":
                trouble, message = self._standing.failure, messages.detail(self._end_body)
            case "limit":
                most_s = self._core.settings.max_session_s
                trouble, message = errors.SESSION_TOO_LONG, f"a session has at most {most_s:g} s of audio"
            case _:
                return 1000, ""
        self._core.metrics.trouble(trouble)
        self.outbox.post_last(error_message(trouble, message))
        return (trouble.close, trouble.code) if trouble.fatal else (1000, "")

    async def _await_transcript(self) -> str | None:
        try:
            async with asyncio.timeout(self._core.settings.session_end_timeout_s):
                await self._wait(self._ended)
                while (transcript := await self._core.transcript(self.listener.keys)) is None:
                    if self._standing.is_aside and not self._end_body:
                        break
                    await self._wait(self._documented)
                    self._documented.clear()
        except (TimeoutError, LogUnavailableError):
            return None
        return transcript

    async def _wait(self, event: asyncio.Event) -> None:
        """Wait for `event`, looking at the feed now and then in case its message was lost."""
        while not event.is_set():
            try:
                async with asyncio.timeout(LOOK_S):
                    await event.wait()
            except TimeoutError:
                self._core.fanout.catch_up(self.listener)
                if event is self._documented:
                    return

    def _too_slow(self) -> None:
        self._core.metrics.trouble(errors.SLOW_CONSUMER)
        self.outbox.post_last(error_message(errors.SLOW_CONSUMER, "messages come faster than they are read"))
        self._closed(errors.SLOW_CONSUMER.close, errors.SLOW_CONSUMER.code)

    def _closed(self, code: int, reason: str) -> None:
        self.state = State.CLOSED
        self.outbox.close(code, reason)
        self._shortcut.tap(None)
        self._shortcut.resume()
        self._room.set()
        self._sealed.set()
        # A client that doesn't read would keep the socket, and what waits in it, for as long as it likes.
        asyncio.get_running_loop().call_later(CLOSE_S, self._shortcut.abort)
