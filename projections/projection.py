"""What a projection is: a name and a pure fold from facts to operations on its read model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from eventlog.events import Fact
from eventlog.keys import RunKeys
from eventlog.positions import Position
from eventlog.projection.operations import Argument, Op

Command = tuple[Argument, ...]


class Batch(NamedTuple):
    """Facts of one run that follow the position up to which the projection has applied it."""

    keys: RunKeys
    after: Position
    facts: Sequence[tuple[Position, Fact]]


class Projection(Protocol):
    """Makes read models of facts.

    Order: each run's facts come in order, each once in what is applied, in batches of any size; any way to cut them
    into batches must lead to the same read model. Redelivery: a fold may be asked again for facts that another process
    is folding too; one of the results is applied. Failure: a fold that raises for a single fact has it dead-lettered.
    """

    @property
    def name(self) -> str:
        """The consumer group, and part of the position's key; never changes once data is there."""
        ...

    @property
    def gather_s(self) -> float:
        """How long news are gathered before a round: what nobody waits for comes cheaper many at once."""
        ...

    def reads(self, batch: Batch) -> Sequence[Command]:
        """Commands on the projection's own read model whose answers the fold needs; usually none."""
        ...

    def fold(self, batch: Batch, answers: Sequence[Any]) -> list[Op]:
        """The operations that these facts lead to, applied all at once with the position; pure."""
        ...
