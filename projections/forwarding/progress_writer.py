"""Writes the progress of batches, and schedules what follows: a retry, a run's next events, or nothing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from eventlog.keys import RunKeys
from eventlog.log import Code, LogUnavailableError
from eventlog.projection.dead_letters import DeadLetter, dead_letter_op, finish_redrives
from eventlog.projection.projection_log import Applied, Apply, ProjectionLog
from projections.forwarding.event_batches import Batch, Progress
from projections.forwarding.run_scheduler import CAP_S, RunScheduler, retry_delay_s

RETRY_S = 0.5
"""After an error of Redis: a restart takes about as long, and a try a millisecond."""

_log = logging.getLogger(__name__)


class ProgressWriter:
    """Keeps unwritten progress, and writes it as often as it takes: the guarded position lets it count once."""

    def __init__(
        self, log: ProjectionLog, runs: RunScheduler[RunKeys], dead_letters: RunScheduler[DeadLetter],
        ready: deque[Batch], *, clock: Callable[[], float], draw: Callable[[], float], session_ttl_s: int,
    ) -> None:  # fmt: skip
        """Write as `log`'s consumer; batches with further events are `ready` again, other items are scheduled."""
        self._log = log
        self._runs = runs
        self._dead_letters = dead_letters
        self._ready = ready
        self._clock = clock
        self._draw = draw
        self._ttl_s = session_ttl_s
        self.unwritten: list[Progress] = []
        self.written: list[tuple[Progress, Applied]] = []
        """Also progress that needs not be written: what follows is yet to be scheduled."""
        self.unwritten_dead_letters: list[DeadLetter] = []
        """Redriven dead letters that are done with."""
        self._retry_s = float("-inf")

    def __len__(self) -> int:
        return len(self.unwritten) + len(self.unwritten_dead_letters)

    @property
    def next_s(self) -> float:
        """When to write; minus infinity for at once."""
        return self._retry_s if len(self) or self.written else float("inf")

    async def write(self) -> None:
        """Write positions and dead letters, and schedule what follows; what can't be reached is written later.

        Raises:
            LogUnavailableError: if Redis can't be reached; of a cluster a node may be away.
        """
        progress, self.unwritten = self.unwritten, []
        applies = [
            Apply(one.batch.keys, one.batch.after, one.position, list(map(dead_letter_op, one.dead_letters)))
            for one in progress
        ]
        try:
            answers = await self._log.apply(applies) if applies else []
        except LogUnavailableError:
            if not self._log.server.is_cluster:
                self.unwritten = progress + self.unwritten
                raise
            # Perhaps only the node is away whose progress this is; the next call to others finds out.
            answers = [Applied(Code.UNKNOWN)] * len(progress)
        answered = list(zip(progress, answers, strict=True))
        self.unwritten += [one for one, answer in answered if answer.code == Code.UNKNOWN]
        self.written += [(one, answer) for one, answer in answered if answer.code != Code.UNKNOWN]
        for one, (code, reason) in self.written:
            batch, retry = one.batch, one.retry
            scheduler = self._runs if batch.dead_letter is None else self._dead_letters
            batch.after = one.position
            if code == Code.MISPLACED:
                about = {"sink": self._log.projection, "run": batch.keys.member, "reason": reason}
                _log.error("position or dead letter refused; retrying", extra=about)
                scheduler.postpone(batch.name, self._clock() + CAP_S, retry)
            elif code != Code.OK:  # STALE: another forwarder was here; GONE: expired or erased finally
                scheduler.finish(batch.name, again=code == Code.STALE)
            elif retry is not None:
                scheduler.postpone(batch.name, self._clock() + retry_delay_s(retry.attempts, self._draw()), retry)
            elif batch.pending:
                scheduler.retries.pop(batch.name, None)
                self._ready.append(batch)
            else:
                scheduler.finish(batch.name, again=batch.has_more)
        self.written.clear()
        if self.unwritten_dead_letters:
            await self._write_letters()
        # A node is away; the others' runs continue.
        self._retry_s = self._clock() + RETRY_S if len(self) else float("-inf")

    async def _write_letters(self) -> None:
        dead_letters, self.unwritten_dead_letters = self.unwritten_dead_letters, []
        unreached = dead_letters
        try:
            unreached = await finish_redrives(
                self._log.server, dead_letters, consumer=self._log.consumer, ttl_s=self._ttl_s
            )
        except LogUnavailableError:
            if not self._log.server.is_cluster:
                raise
        finally:
            self.unwritten_dead_letters = unreached + self.unwritten_dead_letters
        for one in dead_letters:
            if one not in unreached:
                self._dead_letters.finish(one.id, again=False)
