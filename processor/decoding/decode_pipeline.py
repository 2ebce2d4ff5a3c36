"""One upload through one decoder into the audio log, from its first byte, or a restart's, to its end or failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from eventlog.codec import UndecodableEventError, decode_audio_event
from eventlog.events import AudioEvent, Finalized, HoleFound, ProvisionalAsked, SessionSealed
from eventlog.keys import SessionKeys
from eventlog.log import AudioEntry
from eventlog.positions import OPENED, SEALED, Position
from processor.decoding.decoder_process import DecoderProcess, Outcome
from processor.decoding.messages import SAMPLE_BYTES, decode_source
from processor.decoding.pcm_appender import AgainError, PcmAppender
from processor.decoding.restart_points import Restart

log = logging.getLogger(__name__)

CHUNK_BYTES = 65_536
"""Of PCM in one entry: two seconds of mono; a reader's bound on a reply holds with it."""

AHEAD_LOOK_S = 0.05
"""Between two looks whether the checkpoint has come nearer: there are tens of seconds of audio to work on meanwhile."""

CREDIT_STEPS = 64
"""In which an upload's bound is moved: few enough to cost nothing, and a sender is never let wait for the last one."""

FREE_AGAIN_S = 5.0
"""After which it is tried again to free what was held, as by a worker of an older version: those live for minutes."""

SLACK_BYTES = 1 << 20
"""Past the bound on what is kept whole, so that a decoder that has a bound of its own says so first, in its words."""

PASSED_ON = (Finalized, ProvisionalAsked)

NextEntries = Callable[[SessionKeys, Position], Awaitable[list[AudioEntry]]]
"""Waits for entries after a position of an upload."""


class FailedError(Exception):
    """The recording can't be decoded; the message is for a person."""


class LimitReachedError(Exception):
    """The recording is longer than any may be."""


class CrashedError(Exception):
    """The child ended in a way that says nothing about the recording."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one decoding may do.

    Attributes:
        most_samples: Audio after which the session is ended.
        may_go_on: Waits while the samples given are too far ahead of what is processed.
        nothing_yet: Answers who asks before there is any audio: nothing was said.
        ahead_bytes: Of the upload that may be in the log without having been taken by the decoder.
        kept_bytes: Of it that may be there behind that, for a decoder that would have to begin anew.
        go_on: Lets the sender append up to so many bytes, and frees what comes before a restart that is given.
    """

    most_samples: int
    may_go_on: Callable[[int], Awaitable[None]]
    nothing_yet: Callable[[ProvisionalAsked], None]
    ahead_bytes: int
    kept_bytes: int
    go_on: Callable[[int, Restart | None], Awaitable[bool]]


class DecodePipeline:
    """Feeds one child and appends what it says; a takeover makes another one, from where that can begin again."""

    def __init__(
        self, upload: SessionKeys, uplink: PcmAppender, next_entries: NextEntries, bounds: Bounds,
        *, restart: Restart | None = None, first_bytes: bytes = b"",
    ) -> None:  # fmt: skip
        """Read `upload` by `next_entries`, write by `uplink`; with `restart` from there on, after `first_bytes`."""
        self._upload = upload
        self._uplink = uplink
        self._next_entries = next_entries
        self._bounds = bounds
        self._restart = restart
        self._first_bytes = first_bytes
        self._offset_bytes = self._freed_bytes = restart.offset_bytes if restart else 0
        self._cursor = Position(self._offset_bytes, 0) if restart else OPENED
        self._fed_bytes = 0
        self._credit_bytes = bounds.ahead_bytes
        self._is_listening = True
        self._first: list[AudioEntry] = []
        self._sealed: SessionSealed | None = None
        self._early: list[AudioEvent] = []
        self._taken_bytes = 0
        self._all_taken = False
        self._taken = asyncio.Event()
        self._freeing = asyncio.Lock()

    @property
    def reason_without_bytes(self) -> str:
        """Why an upload ended that never brought anything, unless its client said that this was all; else empty."""
        sealed = self._sealed
        return sealed.reason if sealed is not None and not self._fed_bytes and sealed.reason != "stop" else ""

    async def wait_for_bytes(self) -> None:
        """Return when there is something to decode, so that a place is taken only then."""
        self._first = await self._next_entries(self._upload, self._cursor)

    async def run(self, child_for: Callable[[], AbstractAsyncContextManager[DecoderProcess]]) -> SessionSealed:
        """Decode everything; the upload's end.

        Raises:
            FailedError: if there was nothing in it that could be decoded.
            LimitReachedError: if there is more of it than may be.
            CrashedError: if the child ended for another reason than the recording.
            AgainError: if the log isn't where it was believed to be.
            OSError: if no child could be started.
        """
        async with child_for() as child:
            feeding = asyncio.create_task(self._feed(child))
            freeing = asyncio.create_task(self._free_later(child))
            try:
                await self._take(child)
                await self._judge(child, feeding, freeing)
                return await feeding
            finally:
                feeding.cancel()
                freeing.cancel()
                await asyncio.gather(feeding, freeing, return_exceptions=True)

    async def _judge(self, child: DecoderProcess, *tasks: asyncio.Task[SessionSealed] | asyncio.Task[None]) -> None:
        outcome: Outcome = await child.outcome()
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error  # which is why the child was ended
        if outcome.last_words:
            log.info("decoder ended", extra={"session_id": self._upload.session_id, "words": outcome.last_words})
        if not outcome.is_final:
            raise CrashedError(outcome.last_words)
        if outcome.trouble:
            raise FailedError(outcome.trouble)

    async def _feed(self, child: DecoderProcess) -> SessionSealed:
        """Hand in the upload, events at their place; ends the child if that goes wrong, so that nobody waits for it."""
        try:
            if self._first_bytes:
                self._fed_bytes = len(self._first_bytes)
                self._is_listening = await child.feed(self._first_bytes)
                self._first_bytes = b""
            while self._sealed is None:
                entries, self._first = self._first or await self._next_entries(self._upload, self._cursor), []
                for entry in entries:
                    await self._hand_in(child, entry)
                    self._cursor = entry.position
            await child.finish()
        except BaseException:
            child.kill()
            raise
        return self._sealed

    async def _hand_in(self, child: DecoderProcess, entry: AudioEntry) -> None:
        if entry.event is not None:
            await self._pass_on(child, _decoded(entry.event))
        elif entry.pcm is not None:
            start = entry.position.offset - len(entry.pcm)
            if start > self._offset_bytes:
                raise FailedError("bytes that are needed to decode it are gone")
            # After a failover of Redis the edge may have cut what it sent again otherwise than before.
            data = entry.pcm[max(0, self._offset_bytes - start) :]
            self._fed_bytes += len(data)
            if data and self._is_listening:
                # A child may end before its input does, such as at the end that a header tells.
                self._is_listening = await child.feed(data)
        if entry.position != SEALED:
            self._offset_bytes = max(self._offset_bytes, entry.position.offset)
            await self._let_go_on(child)

    async def _let_go_on(self, child: DecoderProcess) -> None:
        """Have the sender send as much again as was taken, unless nothing of it could ever be freed."""
        bounds = self._bounds
        if self._offset_bytes > self._freed_bytes + bounds.kept_bytes + SLACK_BYTES and not child.restarts:
            most_mib = bounds.kept_bytes >> 20
            raise FailedError(f"longer than {most_mib} MiB in a form that can't be gone on with from its middle")
        credit_bytes = self._wanted_bytes()
        if credit_bytes >= self._credit_bytes + bounds.ahead_bytes // CREDIT_STEPS:
            await bounds.go_on(credit_bytes, None)
            self._credit_bytes = credit_bytes

    def _wanted_bytes(self) -> int:
        """Up to where the sender may send."""
        bounds = self._bounds
        most_bytes = self._freed_bytes + bounds.kept_bytes + 2 * SLACK_BYTES
        return max(self._credit_bytes, min(self._offset_bytes + bounds.ahead_bytes, most_bytes))

    async def _free(self, child: DecoderProcess) -> None:
        """Free what comes before the latest point behind which the audio is in the log."""
        if not child.restarts:
            return
        async with self._freeing:  # an older record must never replace a newer one
            await self._free_behind(child)

    async def _free_later(self, child: DecoderProcess) -> None:
        """Free what could not be freed when it might have been, even if nothing more comes before that."""
        while True:
            await asyncio.sleep(FREE_AGAIN_S)
            try:
                await self._free(child)
            except AgainError:
                child.kill()
                raise

    async def _free_behind(self, child: DecoderProcess) -> None:
        latest = None
        while child.restarts and child.restarts[0].start_samples < self._uplink.durable_samples:
            latest = child.restarts.popleft()
        if latest is None:
            return
        before_bytes, self._freed_bytes = self._freed_bytes, latest.offset_bytes
        credit_bytes = self._wanted_bytes()
        if await self._bounds.go_on(credit_bytes, latest):
            self._credit_bytes = max(self._credit_bytes, credit_bytes)
        else:
            self._freed_bytes = before_bytes
            child.restarts.appendleft(latest)

    async def _pass_on(self, child: DecoderProcess, event: AudioEvent) -> None:
        if isinstance(event, SessionSealed):
            self._sealed = event
            return
        if isinstance(event, HoleFound):
            event = HoleFound(samples=0)  # bytes are missing; nobody knows how much audio they were
        elif not isinstance(event, PASSED_ON):
            return
        written_bytes = await child.drained(self._fed_bytes)
        while not self._all_taken and (written_bytes is None or self._taken_bytes < written_bytes):
            self._taken.clear()
            await self._taken.wait()
        if self._uplink.channels:
            await self._uplink.event(event)
        elif isinstance(event, ProvisionalAsked):
            self._bounds.nothing_yet(event)  # who asks waits, perhaps before sending the piece that tells more
        else:
            self._early.append(event)  # the description is always the second entry

    async def _take(self, child: DecoderProcess) -> None:
        """Append what the child says until it has said everything."""
        await self._take_output(child)
        self._all_taken = True
        self._taken.set()

    async def _take_output(self, child: DecoderProcess) -> None:
        line = await child.output.readline()
        if not line.endswith(b"\n"):
            return  # it ended without a word; its outcome says why
        await self._uplink.describe(decode_source(line))
        if self._restart is not None:
            self._uplink.go_on_at(self._restart.start_samples)
        for event in self._early:
            await self._uplink.event(event)
        self._early.clear()
        self._count(len(line))
        frame_bytes = SAMPLE_BYTES * self._uplink.channels
        left = b""
        while piece := await child.output.read(CHUNK_BYTES - len(left)):
            whole = left + piece
            end = len(whole) - len(whole) % frame_bytes
            left = whole[end:]
            if end:
                await self._append(whole[:end], frame_bytes)
                await self._free(child)
            self._count(len(piece))

    async def _append(self, pcm: bytes, frame_bytes: int) -> None:
        room = self._bounds.most_samples - self._uplink.at.offset
        await self._uplink.audio(pcm[: room * frame_bytes])
        if len(pcm) > room * frame_bytes:
            raise LimitReachedError
        await self._bounds.may_go_on(self._uplink.at.offset)

    def _count(self, taken_bytes: int) -> None:
        self._taken_bytes += taken_bytes
        self._taken.set()


def _decoded(data: bytes) -> AudioEvent:
    try:
        return decode_audio_event(data)
    except UndecodableEventError as error:
        raise FailedError("its upload holds an entry that this version doesn't know") from error
