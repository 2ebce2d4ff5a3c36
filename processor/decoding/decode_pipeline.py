"""One upload through one decoder into the audio log, from its first byte, or a restart point, to its end or failure."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from eventlog.appender import CHUNK_BYTES
from eventlog.codec import UndecodableEventError, decode_audio_event
from eventlog.events import (
    AudioEvent,
    ChannelsJudged,
    Finalized,
    HoleFound,
    OptionsChanged,
    Paused,
    ProvisionalRequested,
    SessionSealed,
)
from eventlog.keys import SessionKeys
from eventlog.log import AudioEntry
from eventlog.positions import OPENED, SEALED, Position
from processor.decoding.child_protocol import RestartPoint, Source, decode_source
from processor.decoding.decoder_process import DecoderProcess
from processor.decoding.pcm_appender import LogMovedError, PcmAppender

log = logging.getLogger(__name__)

CREDIT_STEPS = 64
"""In which an upload's credit is raised: few enough to cost nothing, and a sender never waits for the last one."""

FREE_RETRY_S = 5.0
"""Between tries to free bytes that could not be freed, as beside an older version's worker: those live for minutes."""

SLACK_BYTES = 1 << 20
"""Past the bound on bytes kept whole, so that a decoder with a bound of its own reports first, in its own words."""

NextEntries = Callable[[SessionKeys, Position], Awaitable[list[AudioEntry]]]
"""Waits for entries after a position of an upload."""


class DecodingFailedError(Exception):
    """The recording cannot be decoded; the message is for a person."""


class TooLongError(Exception):
    """The recording is longer than any may be."""


class DecoderCrashedError(Exception):
    """The child ended in a way that says nothing about the recording."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits of one decoding, and the calls by which it keeps them.

    Attributes:
        max_samples: Audio after which the session is ended.
        wait_for_room: Waits while the samples given are too far ahead of the checkpoint.
        answer_empty: Answers a request that comes before any audio: no utterance yet.
        ahead_bytes: Of the upload that may be in the log without having been taken by the decoder.
        kept_bytes: Of it that may be there behind that, for a decoder that would have to start from the first byte.
        grant_credit: Lets the sender append up to so many bytes, and frees those before a restart point, if given;
            returns whether it did.
    """

    max_samples: int
    wait_for_room: Callable[[int], Awaitable[None]]
    answer_empty: Callable[[ProvisionalRequested], None]
    ahead_bytes: int
    retained_bytes: int
    grant_credit: Callable[[int, RestartPoint | None], Awaitable[bool]]


class DecodePipeline:
    """Feeds one child and appends its output; a takeover makes a new one, which begins at the latest restart point."""

    def __init__(
        self, upload: SessionKeys, appender: PcmAppender, next_entries: NextEntries, limits: DecodeLimits,
        *, restart: RestartPoint | None = None, first_bytes: bytes = b"",
    ) -> None:  # fmt: skip
        """Read `upload` by `next_entries`, write by `appender`; from `restart` on, if given, after `first_bytes`."""
        self._upload = upload
        self._appender = appender
        self._next_entries = next_entries
        self._limits = limits
        self._restart = restart
        self._first_bytes = first_bytes
        self._offset_bytes = self._freed_bytes = restart.offset_bytes if restart else 0
        self._cursor = Position(self._offset_bytes, 0) if restart else OPENED
        self._fed_bytes = 0
        self._credit_bytes = limits.ahead_bytes
        self._takes_input = True
        self._first_entries: list[AudioEntry] = []
        self._sealed: SessionSealed | None = None
        self._early_events: deque[tuple[int, AudioEvent]] = deque()  # with the samples before each
        self._output_bytes = 0
        self._has_output_ended = False
        self._output_changed = asyncio.Event()
        self._freeing = asyncio.Lock()

    @property
    def reason_without_bytes(self) -> str:
        """Why an upload without any bytes ended, unless its client ended it in order; else empty."""
        sealed = self._sealed
        return sealed.reason if sealed is not None and not self._fed_bytes and sealed.reason != "stop" else ""

    async def wait_for_bytes(self) -> None:
        """Return when the upload has entries, so that a pipeline takes one of the pool's slots only then."""
        self._first_entries = await self._next_entries(self._upload, self._cursor)

    async def run(self, start_decoder: Callable[[], AbstractAsyncContextManager[DecoderProcess]]) -> SessionSealed:
        """Decode everything; returns the upload's end.

        Raises:
            DecodingFailedError: if no audio could be decoded.
            TooLongError: if it has more audio than a session may have.
            DecoderCrashedError: if the child ended for another reason than the recording.
            LogMovedError: if the log's head is not the expected one.
            OSError: if no child could be started.
        """
        async with start_decoder() as child:
            feeding = asyncio.create_task(self._feed(child))
            freeing = asyncio.create_task(self._retry_freeing(child))
            try:
                await self._append_output(child)
                self._has_output_ended = True
                self._output_changed.set()
                await self._check_outcome(child, feeding, freeing)
                return await feeding
            finally:
                feeding.cancel()
                freeing.cancel()
                await asyncio.gather(feeding, freeing, return_exceptions=True)

    async def _check_outcome(
        self, child: DecoderProcess, *tasks: asyncio.Task[SessionSealed] | asyncio.Task[None]
    ) -> None:
        outcome = await child.outcome()
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error  # for which the child was ended
        if outcome.diagnostics:
            log.info("decoder ended", extra={"session_id": self._upload.session_id, "words": outcome.diagnostics})
        if not outcome.is_final:
            raise DecoderCrashedError(outcome.diagnostics)
        if outcome.failure:
            raise DecodingFailedError(outcome.failure)

    async def _feed(self, child: DecoderProcess) -> SessionSealed:
        """Feed the upload, events at their place; on an error kill the child, so that no task waits for it."""
        try:
            if self._first_bytes:
                self._fed_bytes = len(self._first_bytes)
                self._takes_input = await child.feed(self._first_bytes)
                self._first_bytes = b""
            while self._sealed is None:
                entries = self._first_entries or await self._next_entries(self._upload, self._cursor)
                self._first_entries = []
                for entry in entries:
                    await self._feed_entry(child, entry)
                    self._cursor = entry.position
            await child.finish()
        except BaseException:
            child.kill()
            raise
        return self._sealed

    async def _feed_entry(self, child: DecoderProcess, entry: AudioEntry) -> None:
        if entry.event is not None:
            await self._forward_event(child, entry.event)
        elif entry.pcm is not None:
            start = entry.position.offset - len(entry.pcm)
            if start > self._offset_bytes:
                raise DecodingFailedError("bytes that are needed to decode it are gone")
            # After a failover of Redis the edge may cut the bytes that it sends again differently.
            data = entry.pcm[max(0, self._offset_bytes - start) :]
            self._fed_bytes += len(data)
            if data and self._takes_input:
                # A child may end before its input does, such as at the end that a header states.
                self._takes_input = await child.feed(data)
        if entry.position != SEALED:
            self._offset_bytes = max(self._offset_bytes, entry.position.offset)
            await self._raise_credit(child)

    async def _raise_credit(self, child: DecoderProcess) -> None:
        """Let the sender send as much again as was taken, unless none of it could ever be freed."""
        limits = self._limits
        if self._offset_bytes > self._freed_bytes + limits.retained_bytes + SLACK_BYTES and not child.restart_points:
            raise DecodingFailedError(
                f"longer than {limits.retained_bytes >> 20} MiB in a form that can't be continued from its middle"
            )
        credit_bytes = self._next_credit_bytes()
        if credit_bytes >= self._credit_bytes + limits.ahead_bytes // CREDIT_STEPS:
            await limits.grant_credit(credit_bytes, None)
            self._credit_bytes = credit_bytes

    def _next_credit_bytes(self) -> int:
        """Up to where the sender may send."""
        limits = self._limits
        most_bytes = self._freed_bytes + limits.retained_bytes + 2 * SLACK_BYTES
        return max(self._credit_bytes, min(self._offset_bytes + limits.ahead_bytes, most_bytes))

    async def _retry_freeing(self, child: DecoderProcess) -> None:
        """Free bytes that could not be freed at first, even if no more arrive."""
        while True:
            await asyncio.sleep(FREE_RETRY_S)
            try:
                await self._free(child)
            except LogMovedError:
                child.kill()
                raise

    async def _free(self, child: DecoderProcess) -> None:
        """Free the bytes before the latest restart point whose audio is in the log."""
        if not child.restart_points:
            return
        async with self._freeing:  # an older record must never replace a newer one
            latest = None
            while child.restart_points and child.restart_points[0].start_samples < self._appender.durable_samples:
                latest = child.restart_points.popleft()
            if latest is None:
                return
            before_bytes, self._freed_bytes = self._freed_bytes, latest.offset_bytes
            credit_bytes = self._next_credit_bytes()
            if await self._limits.grant_credit(credit_bytes, latest):
                self._credit_bytes = max(self._credit_bytes, credit_bytes)
            else:
                self._freed_bytes = before_bytes
                child.restart_points.appendleft(latest)

    async def _forward_event(self, child: DecoderProcess, data: bytes) -> None:
        """Append a control event once all audio before it is appended."""
        try:
            event = decode_audio_event(data)
        except UndecodableEventError as error:
            raise DecodingFailedError("its upload holds an entry that this version doesn't know") from error
        if isinstance(event, SessionSealed):
            self._sealed = event
            return
        if isinstance(event, HoleFound):
            event = HoleFound(samples=0)  # bytes are missing, of an unknown amount of audio
        elif not isinstance(event, Finalized | Paused | OptionsChanged | ProvisionalRequested):
            return
        consumed = await child.wait_consumed(self._fed_bytes)
        if consumed is not None and consumed.held_samples and isinstance(event, Finalized | Paused):
            consumed = await child.release()  # its client may wait for the text so far
        while not self._has_output_ended and (consumed is None or self._output_bytes < consumed.written_bytes):
            self._output_changed.clear()
            await self._output_changed.wait()
        if self._appender.is_described:
            await self._appender.append_event(event)
        elif isinstance(event, ProvisionalRequested):
            self._limits.answer_empty(event)  # its client waits, perhaps before it sends the next bytes
        else:
            # The description is always the second entry, even if samples are held back before it.
            self._early_events.append((consumed.held_samples if consumed else 0, event))

    async def _append_output(self, child: DecoderProcess) -> None:
        """Append the child's output until it ends."""
        line = await child.output.readline()
        if not line.endswith(b"\n"):
            return  # it ended without a description; its outcome has the reason
        await self._describe(decode_source(line))
        self._count_output(len(line))
        frame_bytes = self._appender.frame_bytes
        rest = b""
        while piece := await child.output.read(CHUNK_BYTES - len(rest)):
            data = rest + piece
            end = len(data) - len(data) % frame_bytes
            rest = data[end:]
            if end:
                await self._append_decoded(data[:end], frame_bytes)
                await self._free(child)
            self._count_output(len(piece))
        while self._early_events:
            await self._appender.append_event(self._early_events.popleft()[1])

    async def _describe(self, source: Source) -> None:
        """Append the description, and how two channels are laid out: the same entries in every decoding."""
        await self._appender.describe(source)
        if self._restart is not None:
            self._appender.start_at(self._restart.start_samples)
        elif source.layout:
            await self._appender.append_event(ChannelsJudged(
                layout=source.layout, delay_samples=source.delay_samples, is_inverted=source.is_inverted,
                is_pinned=True,
            ))  # fmt: skip
        await self._append_decoded(b"", self._appender.frame_bytes)

    async def _append_decoded(self, pcm: bytes, frame_bytes: int) -> None:
        """Append samples, and events that came while they were held back, at their places among them."""
        while self._early_events:
            count_bytes = (self._early_events[0][0] - self._appender.position.offset) * frame_bytes
            if count_bytes > len(pcm):
                break
            if count_bytes > 0:
                await self._append_pcm(pcm[:count_bytes], frame_bytes)
                pcm = pcm[count_bytes:]
            await self._appender.append_event(self._early_events.popleft()[1])
        if pcm:
            await self._append_pcm(pcm, frame_bytes)

    async def _append_pcm(self, pcm: bytes, frame_bytes: int) -> None:
        room = self._limits.max_samples - self._appender.position.offset
        await self._appender.append_audio(pcm[: room * frame_bytes])
        if len(pcm) > room * frame_bytes:
            raise TooLongError
        await self._limits.wait_for_room(self._appender.position.offset)

    def _count_output(self, count_bytes: int) -> None:
        self._output_bytes += count_bytes
        self._output_changed.set()
