"""The contract of a projection, a pure fold from facts to operations, and the plan that survives a fold's errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from eventlog.keys import RunKeys
from eventlog.positions import Position
from eventlog.projection.operations import Argument, Op
from eventlog.projection.projection_log import RunFacts

Command = tuple[Argument, ...]

MakeDeadLetter = Callable[[RunKeys, Position, str], Op]


class Projection(Protocol):
    """Makes read models of facts.

    Order: each run's facts come in order, each once in the applied operations, in pulls of any size; any way to cut
    them into pulls must lead to the same read model. Redelivery: a fold may be asked again for facts that another
    process is folding too; one of the results is applied. Failure: a fold that raises for a single fact has it
    dead-lettered; `reads` must not raise, or its loop ends.
    """

    @property
    def name(self) -> str:
        """The consumer group, and part of the position's key; never changes once data is there."""
        ...

    @property
    def linger_s(self) -> float:
        """How long wake-ups are gathered before a round: read models that no client waits for cost less that way."""
        ...

    def reads(self, pulled: RunFacts) -> Sequence[Command]:
        """Commands on the projection's own read model whose answers the fold needs; usually none."""
        ...

    def fold(self, pulled: RunFacts, answers: Sequence[Any]) -> list[Op]:
        """The operations that these facts lead to, applied all at once with the position; pure."""
        ...


class Plan(NamedTuple):
    """The operations to apply for one run."""

    new: Position
    ops: list[Op]
    has_more: bool
    """Whether the run may have further facts, among them those left for the next pull, to find the one that fails."""
    applied: int
    """Number of facts folded."""
    dead_lettered: int


def plan(projection: Projection, pulled: RunFacts, answers: Sequence[Any], dead_letter: MakeDeadLetter) -> Plan:
    """Fold as many facts as go together; a single one whose fold fails is dead-lettered.

    The reason names the kind of the error, never its text: that could quote the transcript.
    """
    part, ops = pulled, list[Op]()
    unread = next((answer for answer in answers if isinstance(answer, Exception)), None)
    while part.facts:
        if unread is not None and projection.reads(part):  # a read model of another type: no fold can continue from it
            reason = type(unread).__name__
        else:
            try:
                ops = projection.fold(part, answers)
                break
            except Exception as error:  # noqa: BLE001 - any defect of a fold must cost one fact, not the projection
                reason = type(error).__name__
        if len(part.facts) == 1:
            return skip_first(pulled, reason, dead_letter)
        part = part.first(len(part.facts) // 2)
    dead_letters = [dead_letter(part.keys, *one) for one in part.undecodable]
    return Plan(part.end, [*ops, *dead_letters], part.has_more, len(part.facts), len(dead_letters))


def skip_first(pulled: RunFacts, reason: str, dead_letter: MakeDeadLetter) -> Plan:
    """Dead-letter the first fact alone, which its fold or the read model refused."""
    part = pulled.first(1)
    dead_letters = [dead_letter(part.keys, *one) for one in (*part.undecodable, (part.end, reason))]
    return Plan(part.end, dead_letters, part.has_more, applied=0, dead_lettered=len(dead_letters))
