"""Writes what became of events: positions, dead letters, and letters that were sent once more."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from eventlog.log import Code, LogUnavailableError
from eventlog.projection.dead_letters import Refusal, Settlement, dead_letter, settle_redriven
from eventlog.projection.projection_log import Applied, Apply, ProjectionLog
from projections.forwarding.backoff import Failure
from projections.forwarding.event_batches import Lane

_log = logging.getLogger(__name__)


class Written(NamedTuple):
    """A lane whose progress is written."""

    lane: Lane
    code: Code
    failure: Failure | None
    """Of the event that is tried again."""


class _Progress(NamedTuple):
    lane: Lane
    apply: Apply
    failure: Failure | None


class ProgressWriter:
    """Keeps what isn't written yet, and writes it as often as it takes: the guarded position lets it count once."""

    def __init__(self, log: ProjectionLog, *, session_ttl_s: int) -> None:
        """Write as `log`'s consumer."""
        self._log = log
        self._ttl_s = session_ttl_s
        self._progress: list[_Progress] = []
        self._settlements: list[Settlement] = []

    @property
    def lanes(self) -> list[Lane]:
        """Those whose progress isn't written yet."""
        return [one.lane for one in self._progress]

    def __len__(self) -> int:
        return len(self._progress) + len(self._settlements)

    def add_letter(self, settlement: Settlement) -> None:
        """A redriven letter is over with."""
        self._settlements.append(settlement)

    def add(self, lane: Lane, refusals: Sequence[Refusal], failure: Failure | None) -> bool:
        """A lane has come as far as its `position`; False if nothing of that is to be written."""
        aside = lane.take_aside()
        new = lane.position
        if new == lane.after and not refusals:
            return False
        ops = [self._log.dead_letter(lane.keys, *one) for one in aside]
        ops += [dead_letter(self._log.projection, self._log.consumer, one) for one in refusals]
        for position, reason in aside:
            _log.error("fact set aside", extra=self._told(lane) | {"fact": str(position), "reason": reason})
        self._progress.append(_Progress(lane, Apply(lane.keys, lane.after, new, ops), failure))
        return True

    async def write(self) -> list[Written]:
        """Write how far runs have come, and say of which it is written; what has no answer is written again.

        Raises:
            LogUnavailableError: if Redis can't be reached; of a cluster a node may be away.
        """
        progress, self._progress = self._progress, []
        try:
            answers = await self._log.apply([one.apply for one in progress]) if progress else []
        except LogUnavailableError:
            if not self._log.server.is_cluster:
                self._progress = [*progress, *self._progress]
                raise
            # Perhaps only the node is away whose progress this is; what is asked next of others tells.
            answers = [Applied(Code.UNKNOWN)] * len(progress)
        except BaseException:
            self._progress = [*progress, *self._progress]
            raise
        written = [self._written(one, answer) for one, answer in zip(progress, answers, strict=True)]
        self._progress += [one for one, found in zip(progress, written, strict=True) if found is None]
        return [one for one in written if one is not None]

    def _written(self, one: _Progress, answer: Applied) -> Written | None:
        if answer.code == Code.UNKNOWN:
            return None
        if answer.code == Code.OK:
            one.lane.after = one.apply.new
        elif answer.code == Code.MISPLACED:
            _log.error("position or dead letter can't be written", extra=self._told(one.lane) | {"why": answer.reason})
        return Written(one.lane, answer.code, one.failure)

    async def write_letters(self) -> list[Settlement]:
        """Write what became of redriven letters, and say of which it is written; the others are written again.

        Raises:
            LogUnavailableError: as `write`.
        """
        settlements, self._settlements = self._settlements, []
        try:
            left = await settle_redriven(self._log.server, self._log.consumer, settlements, ttl_s=self._ttl_s)
        except LogUnavailableError:
            if not self._log.server.is_cluster:
                self._settlements = [*settlements, *self._settlements]
                raise
            left = settlements
        self._settlements += left
        return [one for one in settlements if one not in left]

    def _told(self, lane: Lane) -> dict[str, str]:
        return {"sink": self._log.projection, "run": lane.keys.member}
