"""From pulled bytes to what is applied: decode, fold, and set aside what can't be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eventlog.codec import UndecodableEventError, decode_fact
from eventlog.events import Fact
from eventlog.keys import RunKeys
from eventlog.positions import Position
from eventlog.projection.operations import Op
from projections.projection import Batch, Projection

SetAside = Callable[[RunKeys, Position, str], Op]


class Decoded(NamedTuple):
    """A run's pulled facts, those aside that no version of ours can read."""

    batch: Batch
    last: Position
    """Of all that was pulled, readable or not: where the projection stands once this is applied."""
    aside: list[tuple[Position, str]]
    has_more: bool
    """Whether the run may have further facts."""


class Plan(NamedTuple):
    """What to apply for one run."""

    new: Position
    ops: list[Op]
    is_whole: bool
    """False if facts were left for the next pull, to find the one that can't be folded."""
    applied: int
    """Number of facts folded."""
    set_aside: int
    """Number of facts that go to the dead letters."""


def decoded(
    keys: RunKeys, after: Position, facts: Sequence[tuple[Position, bytes]], *, has_more: bool
) -> Decoded:
    """Decode `facts`, which mustn't be empty."""
    readable: list[tuple[Position, Fact]] = []
    aside: list[tuple[Position, str]] = []
    for position, data in facts:
        try:
            readable.append((position, decode_fact(data)))
        except UndecodableEventError:
            aside.append((position, "undecodable"))
    return Decoded(Batch(keys, after, readable), facts[-1][0], aside, has_more)


def plan(projection: Projection, pulled: Decoded, answers: Sequence[Any], set_aside: SetAside) -> Plan:
    """Fold as many facts as go together; a single one that can't be folded is set aside.

    The reason names the kind of the error, never its text: that could quote the transcript.
    """
    batch, count = pulled.batch, len(pulled.batch.facts)
    while count:
        try:
            ops = _folded(projection, batch._replace(facts=batch.facts[:count]), answers)
        except Exception as error:  # noqa: BLE001 - any defect of a fold must cost one fact, not the projection
            if count == 1:
                return _set_aside_first(pulled, type(error).__name__, set_aside)
            count //= 2
            continue
        return _finished(pulled, count, ops, set_aside)
    return _finished(pulled, 0, [], set_aside)


def _folded(projection: Projection, batch: Batch, answers: Sequence[Any]) -> list[Op]:
    if projection.reads(batch):
        for answer in answers:
            if isinstance(answer, Exception):  # a read model of another type: no fold can go on from it
                raise answer
    return projection.fold(batch, answers)


def first_only(pulled: Decoded) -> Decoded:
    """Just the first fact, to find out whether it is the one that is refused."""
    if len(pulled.batch.facts) <= 1:
        return pulled
    position = pulled.batch.facts[0][0]
    aside = [one for one in pulled.aside if one[0] < position]
    return Decoded(pulled.batch._replace(facts=pulled.batch.facts[:1]), position, aside, has_more=True)


def refused(pulled: Decoded, reason: str, set_aside: SetAside) -> Plan:
    """The plan for a single fact that the read model refused."""
    return _set_aside_first(pulled, reason, set_aside)


def _set_aside_first(pulled: Decoded, reason: str, set_aside: SetAside) -> Plan:
    position = pulled.batch.facts[0][0]
    aside = [*(one for one in pulled.aside if one[0] < position), (position, reason)]
    ops = [set_aside(pulled.batch.keys, *one) for one in aside]
    return Plan(position, ops, is_whole=position == pulled.last, applied=0, set_aside=len(aside))


def _finished(pulled: Decoded, count: int, ops: list[Op], set_aside: SetAside) -> Plan:
    is_whole = count == len(pulled.batch.facts)
    new = pulled.last if is_whole else pulled.batch.facts[count - 1][0]
    aside = [one for one in pulled.aside if one[0] <= new]
    letters = [set_aside(pulled.batch.keys, *one) for one in aside]
    return Plan(new, [*ops, *letters], is_whole=is_whole, applied=count, set_aside=len(aside))
