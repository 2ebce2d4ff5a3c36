"""Plans for pulled facts: a failure costs one fact, which is dead-lettered, never the projection."""

from collections.abc import Sequence
from typing import Any

import pytest

from eventlog.codec import encode
from eventlog.events import UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.positions import START, Position
from eventlog.projection.operations import Op, push
from eventlog.projection.projection_log import RunFacts
from projections.projection import Command, plan, skip_first
from tests.integration.projections.facts import conversation, keys_of, pulled

KEYS = keys_of("a-session")


class Picky:
    """A projection that fails at one utterance."""

    name = "picky"
    linger_s = 0.0

    def __init__(self, poison: int | None) -> None:
        """Fails at utterance `poison`."""
        self.poison = poison

    def reads(self, pulled: RunFacts) -> Sequence[Command]:
        """Nothing."""
        assert pulled.facts
        return ()

    def fold(self, pulled: RunFacts, answers: Sequence[Any]) -> list[Op]:
        """One push of every position."""
        assert list(answers) == []
        for _, fact in pulled.facts:
            if isinstance(fact, UtteranceFinal) and fact.utterance == self.poison:
                raise RuntimeError(fact.text)
        return [push("list", *(str(position).encode() for position, _ in pulled.facts))]


def dead_letter(keys: RunKeys, position: Position, reason: str) -> Op:
    """Stands for a dead letter."""
    return Op("DEAD", keys.member, (str(position), reason))


def projected(facts: list[tuple[Position, bytes]], projection: Picky) -> list[Op]:
    """All operations of as many plans as it takes."""
    ops: list[Op] = []
    after = START
    while facts:
        made = plan(projection, pulled(KEYS, after, facts), (), dead_letter)
        ops += made.ops
        after = made.new
        facts = [fact for fact in facts if fact[0] > after]
        assert made.has_more == bool(facts)
    return ops


def encoded(count: int) -> list[tuple[Position, bytes]]:
    """A conversation's facts as they are stored."""
    return [(position, encode(fact)) for position, fact in conversation(KEYS, count)]


@pytest.mark.parametrize("poison", range(9))
def test_only_the_poisoned_fact_is_dead_lettered(poison: int) -> None:
    """A fact that a fold fails at is dead-lettered wherever it stands, and all others are applied, in order."""
    facts = encoded(9)
    ops = projected(facts, Picky(poison))
    pushed = [value for op in ops if op.command == "RPUSH" for value in op.arguments]
    expected = [str(position).encode() for position, _ in facts if position != Position(poison + 1, 0)]
    assert pushed == expected
    assert [op for op in ops if op.command == "DEAD"] == [dead_letter(KEYS, Position(poison + 1, 0), "RuntimeError")]


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"event":"utterance_final.v9"}', b'{"event":"utterance_final.v1"}', b"\xff"]
)
def test_undecodable_facts_are_dead_lettered_without_their_text(data: bytes) -> None:
    """Bytes that are no known event go to the dead letters by id alone."""
    facts = encoded(3)
    facts[2] = (facts[2][0], data)
    ops = projected(facts, Picky(None))
    assert [op for op in ops if op.command == "DEAD"] == [dead_letter(KEYS, Position(2, 0), "undecodable")]
    assert sum(len(op.arguments) for op in ops if op.command == "RPUSH") == len(facts) - 1


def test_undecodable_facts_alone_move_the_position() -> None:
    """A pull without a single decodable fact still moves the position past it."""
    found = pulled(KEYS, START, [(Position(1, 0), b"?"), (Position(2, 0), b"?")])
    made = plan(Picky(None), found, (), dead_letter)
    assert (made.new, made.dead_lettered, made.has_more) == (Position(2, 0), 2, False)


def test_a_refused_fact_is_dead_lettered_with_the_reason() -> None:
    """When the read model itself refuses one fact, the position moves past it and no further."""
    facts = encoded(3)
    facts[0] = (facts[0][0], b"?")
    single = pulled(KEYS, START, facts).first(1)
    made = skip_first(single, "HSET meets a list", dead_letter)
    assert single.has_more
    assert (made.new, made.has_more) == (Position(1, 0), True)
    assert [op.arguments for op in made.ops] == [("0-1", "undecodable"), ("1-0", "HSET meets a list")]


def test_the_first_facts_end_before_what_follows() -> None:
    """Undecodable facts behind the last of the first ones stay for the next pull."""
    facts = encoded(1)[:2]
    found = pulled(KEYS, START, [*facts, (Position(5, 0), b"?")])
    assert (found.end, found.has_more) == (Position(5, 0), False)
    first = found.first(2)
    assert (first.end, first.undecodable, first.has_more) == (facts[-1][0], [], True)


def test_an_unreadable_read_model_dead_letters_the_facts_that_need_it() -> None:
    """An error instead of an answer dead-letters the fact that needed it, and none before it."""

    class Reading(Picky):
        def reads(self, pulled: RunFacts) -> Sequence[Command]:
            return (("GET", "x"),) if any(position == Position(2, 0) for position, _ in pulled.facts) else ()

        def fold(self, pulled: RunFacts, answers: Sequence[Any]) -> list[Op]:
            del answers
            return super().fold(pulled, ())

    facts = encoded(2)[:3]
    made = plan(Reading(None), pulled(KEYS, START, facts), [ValueError("x")], dead_letter)
    assert (made.new, made.dead_lettered, made.applied) == (Position(0, 1), 0, 1)
    made = plan(Reading(None), pulled(KEYS, Position(1, 0), facts[2:]), [ValueError("x")], dead_letter)
    assert [op.arguments for op in made.ops] == [("2-0", "ValueError")]
