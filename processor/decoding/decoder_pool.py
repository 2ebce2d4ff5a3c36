"""The worker's role that decodes: a pipeline for every upload, a bounded number of children, one read for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from eventlog.events import ProvisionalRequested, SessionStarted
from eventlog.keys import SessionKeys
from eventlog.log import AudioEntry, Claim, Code, EventLog, LogUnavailableError
from eventlog.log_retry import LogRetry
from eventlog.positions import OPENED, Position
from eventlog.readmodel.feed import ProvisionalAnswer
from eventlog.work.uploads import DecodingStart, TrimPoint, Uploads
from processor.active_runs import ActiveRun, ActiveRuns
from processor.decoding.child_protocol import (
    SAMPLE_RATE_HZ,
    UNKNOWN_RESTART_POINT,
    RestartPoint,
    decode_restart_point,
)
from processor.decoding.decode_pipeline import DecodeLimits, DecodePipeline, DecodingFailedError, TooLongError
from processor.decoding.decoder_process import run_decoder
from processor.decoding.layouts import MIX, SPLIT, ChannelOptions
from processor.decoding.pcm_appender import LogMovedError, PcmAppender
from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

MAX_CRASHES = 3
"""Children that ended for want of memory or by a defect, after which the recording is given up: two may be chance."""

RESTART_INTERVAL_BYTES = 4 << 20
"""Between two restart points: seconds of samples, minutes of compressed speech; few beside the credit, and each costs a
single call."""

NO_PROCESS_S = 1.0
"""Pause when no child can be started: the system is short of some resource, and others need it too."""

ROOM_CHECK_S = 0.05
"""Between two checks whether the checkpoint has come nearer: tens of seconds of audio are still to be processed."""

RETRY_S = 0.2
"""Pause before a read or a decoding begins again: short against a speaker's patience, long against a busy loop."""


class _UploadTrimmer:
    """Stores restart points with an upload, and frees the bytes before them."""

    def __init__(
        self, claim: Claim, uploads: Uploads, log_: EventLog, retry: LogRetry, *, is_head_stored: bool
    ) -> None:
        self._claim = claim
        self._uploads = uploads
        self._log = log_
        self._retry = retry
        self._is_head_stored = is_head_stored

    async def grant_credit(self, credit_bytes: int, restart: RestartPoint | None) -> bool:
        """See `DecodeLimits`; False if no bytes may be freed yet.

        Raises:
            LogMovedError: if another worker has the upload now.
        """
        freed = None
        if restart is not None:
            if not await self._retry.call(self._uploads.may_be_trimmed):
                return False
            first = b"" if self._is_head_stored else await self._first_bytes(restart.head_bytes)
            freed = TrimPoint(msgspec.json.encode(restart), restart.offset_bytes, first)
        code = await self._retry.call(lambda: self._uploads.grant_credit(self._claim, credit_bytes, freed))
        if code != Code.OK:
            raise LogMovedError(code)
        self._is_head_stored |= freed is not None
        return True

    async def _first_bytes(self, count: int) -> bytes:
        upload, found, cursor = self._claim.keys.session.upload, bytearray(), OPENED
        while len(found) < count:
            read = partial(self._log.read, {upload: cursor}, max_bytes_each=count - len(found))
            entries = (await self._retry.call(read)).get(upload)
            if not entries:
                raise LogMovedError(Code.GONE)
            for entry in entries:
                found += (entry.pcm or b"")[max(0, len(found) + len(entry.pcm or b"") - entry.position.offset) :]
                cursor = entry.position
        return bytes(found[:count])


class DecoderPool:
    """Starts and ends pipelines as runs are taken and lost; works beside the reader, which reads their output."""

    def __init__(
        self,
        log_: EventLog,
        uploads: Uploads,
        runs: ActiveRuns,
        settings: WorkerSettings,
        *,
        on_log_error: Callable[[], None],
        on_answers: Callable[[ActiveRun], None],
    ) -> None:
        """Read and append through `log_`, which should be another than the reader's: it learns the chunks' size."""
        self._log = log_
        self._uploads = uploads
        self._runs = runs
        self._settings = settings
        self._on_log_error = on_log_error
        self._on_answers = on_answers
        self._slots = asyncio.Semaphore(settings.max_decoders)
        self._decodings: dict[str, tuple[ActiveRun, asyncio.Task[None]]] = {}
        self._waiting: dict[SessionKeys, tuple[Position, asyncio.Future[list[AudioEntry]]]] = {}
        self._freeing: set[str] = set()
        self.child_count = 0
        """How many decoders run now."""

    async def run(self) -> None:
        """Decode until cancelled; then no child is left."""
        try:
            while True:
                self._start_and_stop()
                await self._read()
                await asyncio.sleep(self._settings.tick_ms / 1000)
        finally:
            tasks = [task for _, task in self._decodings.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._decodings.clear()

    def _start_and_stop(self) -> None:
        for member, (run, task) in list(self._decodings.items()):
            if task.done() and not run.is_held:
                del self._decodings[member]
            elif not run.is_held and member not in self._freeing:
                task.cancel()
        for member, run in self._runs.uploads.items():
            if member not in self._decodings:
                self._decodings[member] = run, asyncio.create_task(self._decode(run), name=f"decode {member}")

    async def _read(self) -> None:
        """Read once for all pipelines that wait for entries."""
        if not self._waiting:
            return
        cursors = {keys: cursor for keys, (cursor, _) in self._waiting.items()}
        try:
            found = await self._log.read(cursors, max_bytes_each=self._settings.max_read_bytes)
        except LogUnavailableError as error:
            log.warning("uploads not read; retrying", extra={"error": error})
            self._on_log_error()
            await asyncio.sleep(RETRY_S)
            return
        for keys, entries in found.items():
            if entries and keys in self._waiting and self._waiting[keys][0] == cursors[keys]:
                _, future = self._waiting.pop(keys)
                if not future.done():
                    future.set_result(entries)

    async def _next_entries(self, keys: SessionKeys, after: Position) -> list[AudioEntry]:
        future: asyncio.Future[list[AudioEntry]] = asyncio.get_running_loop().create_future()
        self._waiting[keys] = after, future
        try:
            return await future
        finally:
            if self._waiting.get(keys, (after, None))[1] is future:
                del self._waiting[keys]

    async def _decode(self, run: ActiveRun) -> None:
        """Decode a run's upload to its end, again from the start if the log or a child fails."""
        crashes = 0
        retry = LogRetry(self._report_unavailable)
        while run.is_held:
            try:
                if not await self._try_decoding(run, retry, is_given_up=crashes >= MAX_CRASHES):
                    return
                break
            except LogMovedError as error:
                # Gone although its guard exists, or broken: the keys do not match, and will not next time.
                crashes += error.code in {Code.GONE, Code.BROKEN}
                await asyncio.sleep(RETRY_S)
            except OSError as error:
                log.warning("decoder not started; retrying", extra={"error": error})
                await asyncio.sleep(NO_PROCESS_S)
            except Exception:  # one recording must not end the worker, nor stay without an end
                crashes += 1
                log.exception("decoding failed", extra={"run": run.claim.keys.member, "crashes": crashes})
                await asyncio.sleep(RETRY_S)
        else:
            return  # the run's new holder needs the upload
        # The run's end, which the seal brings about, must not keep the upload from being freed.
        self._freeing.add(run.claim.keys.member)
        try:
            await retry.call(lambda: self._uploads.free(run.claim.keys.session))
        finally:
            self._freeing.discard(run.claim.keys.member)

    async def _try_decoding(self, run: ActiveRun, retry: LogRetry, *, is_given_up: bool) -> bool:
        """Decode once and seal the audio; returns False if the session is gone, or another worker's."""
        decoding = await retry.call(lambda: self._uploads.start_decoding(run.claim))
        if decoding.code != Code.OK or decoding.start is None:
            return decoding.code == Code.SEALED
        appender = PcmAppender(self._log, self._uploads, run.claim.keys.session, decoding, retry)
        reason, detail = "failed", "could not be decoded"
        if not is_given_up:
            reason, detail = await self._run_pipeline(run, decoding, appender, retry)
        await appender.seal(reason, detail)
        log.info(
            "upload decoded",
            extra={
                "run": run.claim.keys.member, "reason": reason, "detail": detail,
                "samples": appender.position.offset,
            },
        )  # fmt: skip
        return True

    def _report_unavailable(self, error: LogUnavailableError, _: float) -> None:
        log.info("decoding waits: log unavailable", extra={"error": error})
        self._on_log_error()

    async def _run_pipeline(
        self, run: ActiveRun, decoding: DecodingStart, appender: PcmAppender, retry: LogRetry
    ) -> tuple[str, str]:
        """Decode once; returns the reason and the detail with which the audio ends."""
        settings, start = self._settings, decoding.start
        assert start is not None  # noqa: S101 -- the caller has checked
        restart = decode_restart_point(decoding.restart) if decoding.restart else None
        if decoding.restart and (restart is None or len(decoding.first_bytes) != restart.head_bytes):
            return "failed", UNKNOWN_RESTART_POINT
        trimmer = _UploadTrimmer(run.claim, self._uploads, self._log, retry, is_head_stored=restart is not None)
        limits = DecodeLimits(
            max_samples=int(settings.max_session_s * SAMPLE_RATE_HZ),
            wait_for_room=lambda samples: self._wait_for_room(run, samples),
            answer_empty=lambda request: self._answer_empty(run, request),
            ahead_bytes=settings.max_upload_ahead_bytes,
            retained_bytes=max(settings.max_spool_bytes, settings.max_upload_ahead_bytes),
            grant_credit=trimmer.grant_credit,
        )
        pipeline = DecodePipeline(
            run.claim.keys.session.upload, appender, self._next_entries, limits,
            restart=restart, first_bytes=decoding.first_bytes,
        )  # fmt: skip
        await pipeline.wait_for_bytes()
        async with self._slots:
            self.child_count += 1
            try:
                sealed = await pipeline.run(
                    lambda: run_decoder(
                        self._channel_options(start), max_spool_bytes=settings.max_spool_bytes,
                        restart_interval_bytes=min(RESTART_INTERVAL_BYTES, settings.max_upload_ahead_bytes // 4),
                        restart_point=decoding.restart.decode() if restart else "",
                    )
                )  # fmt: skip
            except DecodingFailedError as error:
                if pipeline.reason_without_bytes:
                    return pipeline.reason_without_bytes, ""
                return "failed", str(error)
            except TooLongError:
                return "limit", f"longer than {settings.max_session_s:g} s"
            finally:
                self.child_count -= 1
        return sealed.reason, sealed.detail

    def _channel_options(self, start: SessionStarted) -> ChannelOptions:
        """By what the client asked for, or by the channels that the start has since the recording was described."""
        layout = {1: MIX, 2: SPLIT}.get(start.channels, start.layout)
        # No byte can be freed while samples are held back.
        return ChannelOptions(layout, start.recorded, self._settings.max_upload_ahead_bytes // 2, start.track)

    def _answer_empty(self, run: ActiveRun, request: ProvisionalRequested) -> None:
        run.answers.append(ProvisionalAnswer(request=request.request, utterances=0, provisional=[]))
        self._on_answers(run)

    async def _wait_for_room(self, run: ActiveRun, samples: int) -> None:
        """Wait while so many samples are too far ahead of the checkpoint, and the run still has some to process."""
        ahead_samples = self._settings.max_decode_ahead_s * SAMPLE_RATE_HZ

        def is_ahead() -> bool:
            is_far = samples - min(run.checkpoint.boundaries, default=0) > ahead_samples
            # With no audio left to process, only more audio moves the checkpoint.
            return is_far and bool(run.pending or run.timeline.cursor.offset < samples)

        while run.is_held and is_ahead():  # noqa: ASYNC110 -- the condition changes in four places
            await asyncio.sleep(ROOM_CHECK_S)
