"""Writes the progress of batches: positions, dead letters, and redriven dead letters that are done with."""

from __future__ import annotations

import logging

from eventlog.log import Code, LogUnavailableError
from eventlog.projection.dead_letters import DeadLetter, dead_letter_op, finish_redrives
from eventlog.projection.projection_log import Applied, Apply, ProjectionLog
from projections.forwarding.event_batches import Progress

_log = logging.getLogger(__name__)


class ProgressWriter:
    """Keeps unwritten progress, and writes it as often as it takes: the guarded position lets it count once."""

    def __init__(self, log: ProjectionLog, *, session_ttl_s: int) -> None:
        """Write as `log`'s consumer."""
        self._log = log
        self._ttl_s = session_ttl_s
        self.unwritten: list[Progress] = []
        self.unwritten_dead_letters: list[DeadLetter] = []
        """Redriven dead letters that are done with."""

    def __len__(self) -> int:
        return len(self.unwritten) + len(self.unwritten_dead_letters)

    async def write(self) -> list[tuple[Progress, Code]]:
        """Write how far runs have come, and return the progress that is written; the rest is written again.

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
        written: list[tuple[Progress, Code]] = []
        for one, answer in zip(progress, answers, strict=True):
            if answer.code == Code.UNKNOWN:
                self.unwritten.append(one)
                continue
            if answer.code == Code.OK:
                one.batch.after = one.position
            elif answer.code == Code.MISPLACED:
                about = {"sink": self._log.projection, "run": one.batch.keys.member, "reason": answer.reason}
                _log.error("position or dead letter refused; retrying", extra=about)
            written.append((one, answer.code))
        return written

    async def write_dead_letters(self) -> list[DeadLetter]:
        """Write the end of redriven dead letters, and return those that are written; the rest is written again.

        Raises:
            LogUnavailableError: as `write`.
        """
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
        return [one for one in dead_letters if one not in unreached]
