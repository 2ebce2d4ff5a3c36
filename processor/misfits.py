"""Runs whose language or model this worker's recogniser does not have: for another worker, or ended as failed."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from eventlog.events import SessionEnded, SessionStarted
from eventlog.keys import LIVE_RUN
from eventlog.log import Checkpoint, Commit, LogUnavailableError
from eventlog.positions import SEALED
from eventlog.redis.redis_log import RedisLog
from eventlog.work.abilities import Abilities, Refusal, find_refusal, living_abilities
from eventlog.work.claims import Claims
from eventlog.work.heartbeats import read_all
from processor.active_runs import ActiveRun

log = logging.getLogger(__name__)

FAILED = "failed"

HAND_OVER_S = (0.1, 0.5)
"""Before a hand-over, at random: this worker is woken by it as well, and must not take the run again at once."""


class Misfits:
    """Decides what becomes of claimed runs that this worker can't recognise."""

    def __init__(self, log_: RedisLog, claims: Claims, abilities: Abilities) -> None:
        """Act for a worker with `abilities`, on the runs of `claims`."""
        self._log = log_
        self._claims = claims
        self._abilities = abilities
        self._tasks: set[asyncio.Task[None]] = set()

    def find_refusal(self, start: SessionStarted, checkpoint: Checkpoint) -> Refusal | None:
        """Why this worker can't process a run that stands at `checkpoint`; None if it can."""
        changed = checkpoint.options.language if checkpoint.options else None
        return find_refusal([self._abilities], changed or start.language, start.model)

    def turn_away(self, run: ActiveRun, refusal: Refusal) -> None:
        """Hand a run over if another worker can process it, else end it as failed, with the reason in words."""

        async def guarded() -> None:
            try:
                await self._turn_away(run, refusal)
            except LogUnavailableError as error:
                log.warning("run not turned away; its claim expires", extra={"error": error})
            except Exception:
                log.exception("run not turned away by a defect; its claim expires")

        task = asyncio.get_running_loop().create_task(guarded(), name="misfit")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Break off; the claims expire."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _turn_away(self, run: ActiveRun, refusal: Refusal) -> None:
        start, changed = run.start, run.checkpoint.options
        # Other workers' heartbeats say nothing of a queue of replays, whose workers are made for it.
        beats = [] if self._claims.queue else await read_all(self._log.server)
        others = living_abilities(beats, self._abilities.engine)
        language = (changed and changed.language) or start.language
        if others and find_refusal(others, language, start.model) is None:
            await asyncio.sleep(random.uniform(*HAND_OVER_S))  # noqa: S311 - no secret
            await self._claims.hand_over([run.claim])
        else:
            await self._fail(run, refusal)

    async def _fail(self, run: ActiveRun, refusal: Refusal) -> None:
        """Seal the audio, then state the end: a worker that dies between the two leaves the rest to the next one."""
        keys, checkpoint = run.claim.keys, run.checkpoint
        position = await self._log.read_position(keys.session)
        if keys.run == LIVE_RUN:
            await self._log.seal_many([keys.session.upload, keys.session], FAILED)
        head = position.head.offset if position and position.head != SEALED else 0
        ended = SessionEnded(
            reason=FAILED, audio_samples=head or min(checkpoint.boundaries, default=0), utterances=checkpoint.utterance,
            sample_rate_hz=run.start.sample_rate_hz, ended_ms=time.time_ns() // 1_000_000,
            detail=f"unsupported_{refusal.option}: {refusal.detail}",  # an edge's clients get the code before the colon
        )  # fmt: skip
        after = Checkpoint(
            cursor=checkpoint.cursor, boundaries=checkpoint.boundaries, utterance=checkpoint.utterance,
            serial=checkpoint.serial + 1, options=checkpoint.options,
        )  # fmt: skip
        [committed] = await self._log.commit([Commit(run.claim, after, [(SEALED, ended)], ends=True)])
        log.warning(
            "session refused", extra={"run": keys.member, "reason": refusal.detail, "code": committed.code.name}
        )
