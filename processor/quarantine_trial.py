"""Trying one suspected run in a process of its own: both sides of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from eventlog.events import CONTAINER
from eventlog.log import Claim, Code
from eventlog.redis.redis_log import RedisLog
from eventlog.work.claims import Claims
from eventlog.work.uploads import Uploads
from processor.active_run import ActiveRun
from processor.active_runs import ActiveRuns
from processor.audio_reader import Reader
from processor.committer import Committer
from processor.decoding.decoder_pool import DecoderPool
from processor.quarantine import SoloTrial, UntriedError
from processor.recognition_queue import RecognitionQueue
from processor.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventlog.redis.server import Server
    from processor.recognisers import Recogniser
    from processor.settings import WorkerSettings

log = logging.getLogger(__name__)

QUIET_S = 5.0
"""A suspect that has read all its audio and waits for more this long has survived what killed its workers."""

DECODING_QUIET_S = 15.0
"""The same of a recording: the process that decodes it takes a second or two to start, on a busy machine several."""

UNABLE_STATUS = 2
"""Exit status of a command that can't be used as it is called or set: it never came to try anything."""

LOOK_S = 0.05
"""How often the trial is looked at; it takes seconds."""


def claim_arguments(claim: Claim) -> list[str]:
    """The claim as command-line arguments, for `parse_claim` on the other side."""
    deliveries = str(claim.deliveries)
    return [claim.keys.session_id, claim.keys.run, claim.entry_id, claim.consumer, deliveries, claim.queue]


def parse_claim(server: Server, arguments: Sequence[str]) -> Claim:
    """The claim that `claim_arguments` wrote.

    Raises:
        ValueError: if there aren't six, or the last but one is no number.
    """
    session_id, run, entry_id, consumer, deliveries, queue = arguments
    return Claim(server.keys.of(session_id).run(run), entry_id, consumer, int(deliveries), queue)


def spawning(command: Sequence[str], timeout_s: float) -> SoloTrial:
    """A trial that runs `command` with the claim's arguments and judges by its exit status: 0 is life, 2 no answer."""

    async def trial(claim: Claim) -> bool:
        try:
            process = await asyncio.create_subprocess_exec(*command, *claim_arguments(claim))
        except OSError as error:
            raise UntriedError(f"no process could be started to try a run alone: {error}") from error
        try:
            status = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            log.warning("solo trial took too long", extra={"run": claim.keys.member, "timeout_s": timeout_s})
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if status == UNABLE_STATUS:
            raise UntriedError("the process that should have tried a run alone could not be used as it is set")
        return status == 0

    return trial


async def run_alone(server: Server, settings: WorkerSettings, recogniser: Recogniser, claim: Claim) -> bool:
    """Process one run until its next commit, its end, or until it has nothing more to do; whether that worked.

    The parent holds and renews the claim; dying in here is the answer that it waits for.
    """
    claims = Claims(
        server, claim.consumer, lease_ms=settings.lease_ms, session_ttl_s=settings.session_ttl_s, queue=claim.queue
    )
    [began] = await claims.load([claim])
    if began.code != Code.OK or began.start is None:
        return began.code in {Code.GONE, Code.SEALED}
    run = ActiveRun(claim, began.start, began.checkpoint, began.last_fact, Timeline(began.start, began.checkpoint))
    run.total_samples, run.source = began.total_samples, began.source
    return await _process(RedisLog(server, session_ttl_s=settings.session_ttl_s), settings, recogniser, run)


async def _process(log_: RedisLog, settings: WorkerSettings, recogniser: Recogniser, run: ActiveRun) -> bool:
    holdings = ActiveRuns(1)
    holdings.add(run)
    failed: list[str] = []
    recognition = RecognitionQueue(recogniser)
    reader = Reader(
        log_, holdings, recognition, settings, on_trouble=_ignore, on_poison=lambda _run, reason: failed.append(reason)
    )
    committer = Committer(
        log_, holdings, audio_retention_s=settings.audio_retention_s, on_trouble=_ignore,
        keeps_unarchived=settings.keeps_unarchived,
        on_answers=lambda run: run.answers.clear(),
    )  # fmt: skip
    # Without it a recording would be tried no further than those got who died of it.
    uploads = Uploads(log_.server, ahead_bytes=settings.max_upload_ahead_bytes, session_ttl_s=settings.session_ttl_s)
    decoders = DecoderPool(
        log_, uploads, holdings, settings, on_trouble=_ignore, on_answers=lambda run: run.answers.clear()
    )
    tasks = [asyncio.create_task(work) for work in (reader.run(), committer.run(), decoders.run())]
    try:
        await _settled(run, failed, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        recognition.close()
    return not failed and not any(task.done() and not task.cancelled() and task.exception() for task in tasks)


async def _settled(run: ActiveRun, failed: list[str], tasks: Sequence[asyncio.Task[None]]) -> None:
    serial, cursor, moved = run.checkpoint.serial, run.timeline.cursor, time.monotonic()
    quiet_s = DECODING_QUIET_S if run.start.encoding == CONTAINER else QUIET_S
    while run.held and run.checkpoint.serial == serial and not failed and not any(task.done() for task in tasks):
        await asyncio.sleep(LOOK_S)
        if run.timeline.cursor != cursor or run.pending:
            cursor, moved = run.timeline.cursor, time.monotonic()
        if time.monotonic() - moved > quiet_s:
            return


def _ignore() -> None:
    """Nothing to unsettle: this process takes over nothing."""
