"""What is made of pulled bytes: dead letters cost one fact, never the projection."""

from collections.abc import Sequence
from typing import Any

import pytest

from eventlog.codec import encode
from eventlog.events import UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.positions import START, Position
from eventlog.projection.operations import Op, push
from projections.fold_plan import decoded, first_only, plan, refused
from projections.projection import Batch, Command
from tests.integration.projections.facts import conversation, keys_of

KEYS = keys_of("a-session")


class Picky:
    """A projection that fails at one utterance."""

    name = "picky"
    gather_s = 0.0

    def __init__(self, poison: int | None) -> None:
        """Fails at utterance `poison`."""
        self.poison = poison

    def reads(self, batch: Batch) -> Sequence[Command]:
        """Nothing."""
        assert batch.facts
        return ()

    def fold(self, batch: Batch, answers: Sequence[Any]) -> list[Op]:
        """One push of every position."""
        assert list(answers) == []
        for _, fact in batch.facts:
            if isinstance(fact, UtteranceFinal) and fact.utterance == self.poison:
                raise RuntimeError(fact.text)
        return [push("list", *(str(position).encode() for position, _ in batch.facts))]


def set_aside(keys: RunKeys, position: Position, reason: str) -> Op:
    """Stands for a dead letter."""
    return Op("DEAD", keys.member, (str(position), reason))


def projected(facts: list[tuple[Position, bytes]], projection: Picky) -> list[Op]:
    """All operations of as many plans as it takes."""
    ops: list[Op] = []
    after = START
    while facts:
        made = plan(projection, decoded(KEYS, after, facts, has_more=False), (), set_aside)
        ops += made.ops
        after = made.new
        facts = [fact for fact in facts if fact[0] > after]
        assert made.is_whole == (not facts)
    return ops


def encoded(count: int) -> list[tuple[Position, bytes]]:
    """A conversation's facts as they are stored."""
    return [(position, encode(fact)) for position, fact in conversation(KEYS, count)]


@pytest.mark.parametrize("poison", range(9))
def test_only_the_poisoned_fact_is_set_aside(poison: int) -> None:
    """A fact that a fold fails at is set aside wherever it stands, and all others are applied, in order."""
    facts = encoded(9)
    ops = projected(facts, Picky(poison))
    pushed = [value for op in ops if op.command == "RPUSH" for value in op.arguments]
    expected = [str(position).encode() for position, _ in facts if position != Position(poison + 1, 0)]
    assert pushed == expected
    assert [op for op in ops if op.command == "DEAD"] == [set_aside(KEYS, Position(poison + 1, 0), "RuntimeError")]


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"event":"utterance_final.v9"}', b'{"event":"utterance_final.v1"}', b"\xff"]
)
def test_undecodable_facts_are_set_aside_without_their_text(data: bytes) -> None:
    """Bytes that are no known event go to the dead letters by id alone."""
    facts = encoded(3)
    facts[2] = (facts[2][0], data)
    ops = projected(facts, Picky(None))
    assert [op for op in ops if op.command == "DEAD"] == [set_aside(KEYS, Position(2, 0), "undecodable")]
    assert sum(len(op.arguments) for op in ops if op.command == "RPUSH") == len(facts) - 1


def test_nothing_but_undecodable_facts() -> None:
    """A pull without a single readable fact still moves the position past it."""
    found = decoded(KEYS, START, [(Position(1, 0), b"?"), (Position(2, 0), b"?")], has_more=False)
    made = plan(Picky(None), found, (), set_aside)
    assert (made.new, made.set_aside, made.is_whole) == (Position(2, 0), 2, True)


def test_a_refused_single_fact_is_set_aside_with_the_reason() -> None:
    """When the read model itself refuses one fact, the position moves past it and no further."""
    facts = encoded(3)
    facts[0] = (facts[0][0], b"?")
    single = first_only(decoded(KEYS, START, facts, has_more=False))
    made = refused(single, "HSET meets a list", set_aside)
    assert single.has_more
    assert made.new == Position(1, 0)
    assert [op.arguments for op in made.ops] == [("0-1", "undecodable"), ("1-0", "HSET meets a list")]


def test_an_unreadable_read_model_counts_against_who_needs_it() -> None:
    """An error instead of an answer sets aside the fact that needed it, and none before it."""

    class Reading(Picky):
        def reads(self, batch: Batch) -> Sequence[Command]:
            return (("GET", "x"),) if any(position == Position(2, 0) for position, _ in batch.facts) else ()

        def fold(self, batch: Batch, answers: Sequence[Any]) -> list[Op]:
            del answers
            return super().fold(batch, ())

    facts = encoded(2)[:3]
    made = plan(Reading(None), decoded(KEYS, START, facts, has_more=False), [ValueError("x")], set_aside)
    assert (made.new, made.set_aside, made.applied) == (Position(0, 1), 0, 1)
    made = plan(Reading(None), decoded(KEYS, Position(1, 0), facts[2:], has_more=False), [ValueError("x")], set_aside)
    assert [op.arguments for op in made.ops] == [("2-0", "ValueError")]
