"""The trial of one suspected run in a process of its own: its parent's side, and its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from eventlog.events import CONTAINER
from eventlog.log import Claim, Code
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server
from eventlog.service import ServiceTasks
from eventlog.work.claims import Claims
from eventlog.work.uploads import Uploads
from processor.active_runs import ActiveRun, ActiveRuns
from processor.audio_reader import AudioReader
from processor.committer import Committer
from processor.decoding.decoder_pool import DecoderPool
from processor.quarantine import QuarantineTrial, TrialNotMadeError
from processor.recognisers import Recogniser
from processor.recognition_queue import RecognitionQueue
from processor.settings import WorkerSettings
from processor.timeline import Timeline

log = logging.getLogger(__name__)

QUIET_S = 5.0
"""A suspect that has read all its audio and waits for more this long has survived the cause of its workers' deaths."""

DECODING_QUIET_S = 15.0
"""The same of a recording: the process that decodes it takes a second or two to start, on a busy machine several."""

UNABLE_STATUS = 2
"""Exit status of a command with unusable arguments or settings: it never made the trial."""

LOOK_S = 0.05
"""Between two checks of a trial, which takes seconds."""


def claim_arguments(claim: Claim) -> list[str]:
    """The claim as command-line arguments, for `parse_claim` in the child."""
    deliveries = str(claim.deliveries)
    return [claim.keys.session_id, claim.keys.run, claim.entry_id, claim.consumer, deliveries, claim.queue]


def parse_claim(server: Server, arguments: Sequence[str]) -> Claim:
    """The claim that `claim_arguments` wrote.

    Raises:
        ValueError: if they are not six, or the last but one is no number.
    """
    session_id, run, entry_id, consumer, deliveries, queue = arguments
    return Claim(server.keys.of(session_id).run(run), entry_id, consumer, int(deliveries), queue)


def command_trial(command: Sequence[str], timeout_s: float) -> QuarantineTrial:
    """A trial that runs `command` with the claim's arguments; exit status 0: it lived, 2: no trial was made."""

    async def run_command(claim: Claim) -> bool:
        try:
            process = await asyncio.create_subprocess_exec(*command, *claim_arguments(claim))
        except OSError as error:
            raise TrialNotMadeError(f"no process could be started for a quarantine trial: {error}") from error
        try:
            status = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            log.warning(
                "quarantine trial timed out; process killed", extra={"run": claim.keys.member, "timeout_s": timeout_s}
            )
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if status == UNABLE_STATUS:
            raise TrialNotMadeError("the process for a quarantine trial refused its arguments or settings")
        return status == 0

    return run_command


async def run_trial(server: Server, settings: WorkerSettings, recogniser: Recogniser, claim: Claim) -> bool:
    """Process one run until its next commit, its end, or until it is idle; returns whether it lived.

    The parent holds and renews the claim; the death of this process is an answer too.
    """
    claims = Claims(
        server, claim.consumer, lease_ms=settings.lease_ms, session_ttl_s=settings.session_ttl_s, queue=claim.queue
    )
    [loaded] = await claims.load([claim])
    if loaded.code != Code.OK or loaded.start is None:
        return loaded.code in {Code.GONE, Code.SEALED}
    run = ActiveRun(
        claim, loaded.start, loaded.checkpoint, loaded.last_fact, Timeline(loaded.start, loaded.checkpoint),
        loaded.total_samples, loaded.source,
    )  # fmt: skip
    return await _process(RedisLog(server, session_ttl_s=settings.session_ttl_s), settings, recogniser, run)


async def _process(log_: RedisLog, settings: WorkerSettings, recogniser: Recogniser, run: ActiveRun) -> bool:
    runs = ActiveRuns(1)
    runs.add(run)
    poison_reasons: list[str] = []
    recognition = RecognitionQueue(recogniser)
    reader = AudioReader(
        log_, runs, recognition, settings, on_log_error=_ignore,
        on_poison=lambda _run, reason: poison_reasons.append(reason),
    )  # fmt: skip
    committer = Committer(
        log_, runs, audio_retention_s=settings.audio_retention_s, on_log_error=_ignore,
        keeps_unarchived=settings.keeps_unarchived, on_answers=lambda run: run.answers.clear(),
    )  # fmt: skip
    # Without it a recording would be tried no further than the workers that died of it had decoded it.
    uploads = Uploads(log_.server, ahead_bytes=settings.max_upload_ahead_bytes, session_ttl_s=settings.session_ttl_s)
    decoders = DecoderPool(
        log_, uploads, runs, settings, on_log_error=_ignore, on_answers=lambda run: run.answers.clear()
    )
    tasks = ServiceTasks()
    for name, work in (("reader", reader.run()), ("committer", committer.run()), ("decoders", decoders.run())):
        tasks.spawn(name, work)
    try:
        await _wait_for_progress(run, lambda: bool(poison_reasons) or tasks.has_failed)
        return not poison_reasons and not tasks.has_failed
    finally:
        await tasks.stop()
        recognition.close()


async def _wait_for_progress(run: ActiveRun, has_failed: Callable[[], bool]) -> None:
    """Return at the run's next commit or end, when it has been quiet for long, or when it has failed."""
    serial, cursor, active_at = run.checkpoint.serial, run.timeline.cursor, time.monotonic()
    quiet_s = DECODING_QUIET_S if run.start.encoding == CONTAINER else QUIET_S
    while run.is_held and run.checkpoint.serial == serial and not has_failed():
        await asyncio.sleep(LOOK_S)
        if run.timeline.cursor != cursor or run.pending:
            cursor, active_at = run.timeline.cursor, time.monotonic()
        if time.monotonic() - active_at > quiet_s:
            return


def _ignore() -> None:
    """Begin no grace period: this process takes over nothing."""
