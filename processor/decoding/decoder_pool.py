"""The worker's role that decodes: a pump for every upload it holds, a bounded number of children, one read for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from eventlog.events import ProvisionalAsked
from eventlog.keys import SessionKeys
from eventlog.log import AudioEntry, Code, EventLog, LogUnavailableError
from eventlog.positions import OPENED, Position
from eventlog.readmodel.feed import ProvisionalAnswer
from eventlog.work.uploads import DecodingStart, TrimPoint, Uploads
from processor.decoding.decode_pipeline import AHEAD_LOOK_S, Bounds, DecodePipeline, FailedError, LimitReachedError
from processor.decoding.decoder_process import running
from processor.decoding.messages import SAMPLE_RATE_HZ
from processor.decoding.pcm_appender import RETRY_S, AgainError, PcmAppender, insisted
from processor.decoding.restart_points import UNKNOWN_RECORD, Restart, decode_restart

if TYPE_CHECKING:
    from eventlog.log import Claim
    from processor.active_run import ActiveRun
    from processor.active_runs import ActiveRuns
    from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

MOST_CRASHES = 3
"""Children that ended for want of memory or by a defect, after which the recording is given up: two may be chance."""

RESTART_BYTES = 4 << 20
"""Between two points from which a recording can be gone on with: seconds of samples, minutes of compressed speech; few
beside what may be ahead, and each a single call."""

NO_PROCESS_S = 1.0
"""Pause when no child can be started: the system is short of something, and others need it too."""


class _Storing:
    """What one decoding leaves for the next, before it frees what that would have read."""

    def __init__(
        self, claim: Claim, uploads: Uploads, log_: EventLog, on_trouble: Callable[[], None], *, is_head_stored: bool
    ) -> None:
        self._claim = claim
        self._uploads = uploads
        self._log = log_
        self._on_trouble = on_trouble
        self._is_head_stored = is_head_stored

    async def go_on(self, credit_bytes: int, restart: Restart | None) -> bool:
        """See `pump.Bounds`; False if nothing may be freed yet.

        Raises:
            AgainError: if the upload is somebody else's now.
        """
        freed = None
        if restart is not None:
            if not await insisted(self._uploads.may_be_trimmed, self._on_trouble):
                return False
            first = b"" if self._is_head_stored else await self._first_bytes(restart.head_bytes)
            freed = TrimPoint(msgspec.json.encode(restart), restart.offset_bytes, first)
        code = await insisted(lambda: self._uploads.grant_credit(self._claim, credit_bytes, freed), self._on_trouble)
        if code != Code.OK:
            raise AgainError(code)
        self._is_head_stored |= freed is not None
        return True

    async def _first_bytes(self, count: int) -> bytes:
        upload, found, cursor = self._claim.keys.session.upload, bytearray(), OPENED
        while len(found) < count:
            read = partial(self._log.read, {upload: cursor}, max_bytes_each=count - len(found))
            entries = (await insisted(read, self._on_trouble)).get(upload)
            if not entries:
                raise AgainError(Code.GONE)
            for entry in entries:
                found += (entry.pcm or b"")[max(0, len(found) + len(entry.pcm or b"") - entry.position.offset) :]
                cursor = entry.position
        return bytes(found[:count])


class DecoderPool:
    """Starts and ends pumps as runs are taken and let go; sits beside the reader, which reads what they append."""

    def __init__(
        self,
        log_: EventLog,
        uploads: Uploads,
        holdings: ActiveRuns,
        settings: WorkerSettings,
        *,
        on_trouble: Callable[[], None],
        on_answers: Callable[[ActiveRun], None],
    ) -> None:
        """Read and append through `log_`, which should be another than the reader's: it learns the chunks' size."""
        self._log = log_
        self._uploads = uploads
        self._holdings = holdings
        self._settings = settings
        self._on_trouble = on_trouble
        self._on_answers = on_answers
        self._places = asyncio.Semaphore(settings.max_decoders)
        self._pumps: dict[str, tuple[ActiveRun, asyncio.Task[None]]] = {}
        self._wanted: dict[SessionKeys, tuple[Position, asyncio.Future[list[AudioEntry]]]] = {}
        self._freeing: set[str] = set()
        self.children = 0
        """How many decoders run now."""

    async def run(self) -> None:
        """Go on until cancelled; then no child is left."""
        try:
            while True:
                self._start_and_stop()
                await self._read()
                await asyncio.sleep(self._settings.tick_ms / 1000)
        finally:
            tasks = [task for _, task in self._pumps.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._pumps.clear()

    def _start_and_stop(self) -> None:
        for member, (run, task) in list(self._pumps.items()):
            if task.done() and not run.held:
                del self._pumps[member]
            elif not run.held and member not in self._freeing:
                task.cancel()
        for member, run in self._holdings.uploads.items():
            if member not in self._pumps:
                self._pumps[member] = run, asyncio.create_task(self._decode(run), name=f"decode {member}")

    async def _read(self) -> None:
        """Read once for all pumps that wait for entries."""
        if not self._wanted:
            return
        cursors = {keys: cursor for keys, (cursor, _) in self._wanted.items()}
        try:
            found = await self._log.read(cursors, max_bytes_each=self._settings.max_read_bytes)
        except LogUnavailableError as error:
            log.warning("uploads not read, trying again", extra={"error": error})
            self._on_trouble()
            await asyncio.sleep(RETRY_S)
            return
        for keys, entries in found.items():
            if entries and keys in self._wanted and self._wanted[keys][0] == cursors[keys]:
                _, future = self._wanted.pop(keys)
                if not future.done():
                    future.set_result(entries)

    async def _next_entries(self, keys: SessionKeys, after: Position) -> list[AudioEntry]:
        future: asyncio.Future[list[AudioEntry]] = asyncio.get_running_loop().create_future()
        self._wanted[keys] = after, future
        try:
            return await future
        finally:
            if self._wanted.get(keys, (after, None))[1] is future:
                del self._wanted[keys]

    async def _decode(self, run: ActiveRun) -> None:
        """Decode a run's upload to its end, from the beginning again if the log or a child fails."""
        crashes = 0
        while run.held:
            try:
                if not await self._decoded(run, given_up=crashes >= MOST_CRASHES):
                    return
                break
            except AgainError as again:
                # Gone, and yet its guard is there: the stream isn't as the guard believes, and won't be next time.
                crashes += again.code == Code.GONE
                await asyncio.sleep(RETRY_S)
            except OSError as error:
                log.warning("no decoder could be started, trying again", extra={"error": error})
                await asyncio.sleep(NO_PROCESS_S)
            except Exception:  # one recording must not end the worker, nor stay without an end
                crashes += 1
                log.exception("decoding failed", extra={"run": run.claim.keys.member, "crashes": crashes})
                await asyncio.sleep(RETRY_S)
        else:
            return  # whoever has the run now needs the upload
        # The run's end, which the seal brings about, must not keep the upload from being freed.
        self._freeing.add(run.claim.keys.member)
        try:
            await insisted(lambda: self._uploads.free(run.claim.keys.session), self._on_trouble)
        finally:
            self._freeing.discard(run.claim.keys.member)

    async def _decoded(self, run: ActiveRun, *, given_up: bool) -> bool:
        """Whether the audio has its end now; if not, the session is gone, or somebody else's."""
        begun = await insisted(lambda: self._uploads.start_decoding(run.claim), self._on_trouble)
        if begun.code == Code.OK and begun.start is not None:
            await self._attempt(run, begun, given_up=given_up)
            return True
        return begun.code == Code.SEALED

    async def _attempt(self, run: ActiveRun, begun: DecodingStart, *, given_up: bool) -> None:
        """Decode once and seal the audio."""
        uplink = PcmAppender(self._log, self._uploads, run.claim.keys.session, begun, self._on_trouble)
        reason, detail = "failed", "could not be decoded"
        if not given_up:
            reason, detail = await self._pumped(run, begun, uplink)
        await uplink.seal(reason, detail)
        log.info(
            "upload decoded",
            extra={"run": run.claim.keys.member, "reason": reason, "detail": detail, "samples": uplink.at.offset},
        )

    async def _pumped(self, run: ActiveRun, begun: DecodingStart, uplink: PcmAppender) -> tuple[str, str]:
        """The reason and the detail with which the audio ends."""
        settings = self._settings
        restart = decode_restart(begun.restart) if begun.restart else None
        if begun.restart and (restart is None or len(begun.first_bytes) != restart.head_bytes):
            return "failed", UNKNOWN_RECORD
        storing = _Storing(run.claim, self._uploads, self._log, self._on_trouble, is_head_stored=restart is not None)
        bounds = Bounds(
            most_samples=int(self._settings.max_session_s * SAMPLE_RATE_HZ),
            may_go_on=lambda samples: self._may_go_on(run, samples),
            nothing_yet=lambda asked: self._nothing_yet(run, asked),
            ahead_bytes=settings.max_upload_ahead_bytes,
            kept_bytes=max(settings.max_spool_bytes, settings.max_upload_ahead_bytes),
            go_on=storing.go_on,
        )
        pump = DecodePipeline(
            run.claim.keys.session.upload, uplink, self._next_entries, bounds,
            restart=restart, first_bytes=begun.first_bytes,
        )  # fmt: skip
        await pump.wait_for_bytes()
        channels = 0 if begun.start is None else begun.start.channels
        async with self._places:
            self.children += 1
            try:
                sealed = await pump.run(
                    lambda: running(
                        channels=channels, max_spool_bytes=settings.max_spool_bytes,
                        restart_bytes=min(RESTART_BYTES, settings.max_upload_ahead_bytes // 4),
                        restart=begun.restart.decode() if restart else "",
                    )
                )  # fmt: skip
            except FailedError as error:
                return pump.reason_without_bytes or "failed", "" if pump.reason_without_bytes else str(error)
            except LimitReachedError:
                return "limit", f"longer than {self._settings.max_session_s:g} s"
            finally:
                self.children -= 1
        return sealed.reason, sealed.detail

    def _nothing_yet(self, run: ActiveRun, asked: ProvisionalAsked) -> None:
        run.answers.append(ProvisionalAnswer(request=asked.request, utterances=0, provisional=[]))
        self._on_answers(run)

    async def _may_go_on(self, run: ActiveRun, samples: int) -> None:
        """Wait while so many samples are too far ahead of the checkpoint, and the run has still to work on them."""
        ahead_samples = self._settings.max_decode_ahead_s * SAMPLE_RATE_HZ

        def is_ahead() -> bool:
            is_far = samples - min(run.checkpoint.boundaries, default=0) > ahead_samples
            # With nothing left to work on, only more audio moves the checkpoint.
            return is_far and bool(run.pending or run.timeline.cursor.offset < samples)

        while run.held and is_ahead():  # noqa: ASYNC110 -- what is waited for changes in four places
            await asyncio.sleep(AHEAD_LOOK_S)
