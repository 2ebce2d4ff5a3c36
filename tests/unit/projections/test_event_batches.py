from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventlog.codec import encode
from eventlog.events import Fact, SessionOpened
from eventlog.positions import OPENED, SEALED, START, Position
from projections.forwarding.backoff import Failure
from projections.forwarding.event_batches import UNOPENED, Judge, Lane, lane_of, settle
from projections.forwarding.sink import SENT, Outcome, Verdict
from projections.integration_events import Kind, event_id, transcript_kinds
from tests.integration.projections.facts import conversation, final, keys_of, opened, pulled

KEYS = keys_of("0b6a2c4e-3d0a-4a39-9d3f-2f6f5f4d3c2b")
LATER = Verdict(Outcome.LATER, "throttled")
NEVER = Verdict(Outcome.NEVER, "too large")
OFF = Verdict(Outcome.OFF)
NOW = Judge(now_s=100.0, now_ms=1_700_000_000_000, give_up_s=60.0)


def both_kinds(_: SessionOpened, fact: Fact) -> Sequence[Kind]:
    """Two events of each end."""
    kinds = transcript_kinds(_, fact)
    return (*kinds, Kind.BATCH_FAILED) if Kind.SESSION_ENDED in kinds else kinds


def lane(finals: int = 3, *, failure: Failure | None = None, kinds: object = transcript_kinds) -> Lane:
    """Everything of a run with so many finals."""
    facts = [(position, encode(fact)) for position, fact in conversation(KEYS, finals)]
    first = opened(KEYS)[1]
    assert isinstance(first, SessionOpened)
    return lane_of(pulled(KEYS, START, facts), first, kinds, failure)  # type: ignore[arg-type]


def test_a_lane_has_the_events_in_order() -> None:
    """Each fact that makes an event is due after the fact before it, and what makes none is passed over."""
    found = lane(2)
    assert [(one.before, one.position) for one in found.due] == [
        (OPENED, Position(1, 0)), (Position(1, 0), Position(2, 0)), (Position(2, 0), SEALED),
    ]  # fmt: skip
    assert found.position == OPENED
    assert [final.text for final in found.finals or ()] == ["words 0.", "words 1."]


@given(
    outcomes=st.lists(st.sampled_from([SENT, OFF, NEVER]), max_size=4), cut=st.booleans(),
)
def test_a_position_is_never_past_an_event_that_is_not_over_with(outcomes: list[Verdict], *, cut: bool) -> None:
    """The sink stands before the first event that it has yet to take, whatever became of the earlier ones (BATCH-6)."""
    found = lane(3)
    places = [one.before for one in found.due]
    verdicts = [*outcomes, LATER][:4] if cut else outcomes
    settled = settle(found, verdicts, None, NOW)
    over = next((number for number, one in enumerate(verdicts) if one is LATER), len(verdicts))
    assert found.position == (places[over] if over < len(places) else SEALED)
    assert len(settled.refusals) == sum(one is NEVER for one in verdicts[:over])
    assert settled.forwarded == sum(one is SENT for one in verdicts[:over])
    assert (settled.failure is not None) == (over < len(verdicts))


def test_an_event_is_given_up_after_the_bound() -> None:
    """An event put off is tried again until the bound since its own first failure, then it is refused (BATCH-6)."""
    found = lane(1)
    settled = settle(found, [LATER], None, NOW)
    assert settled.failure is not None
    assert settled.failure.attempts == 1
    settled = settle(found, [LATER], settled.failure, NOW._replace(now_s=159.0))
    assert settled.failure is not None
    assert (settled.failure.attempts, settled.failure.first_s) == (2, 100.0)
    settled = settle(found, [LATER, LATER], settled.failure, NOW._replace(now_s=160.0))
    [refusal] = settled.refusals
    assert (refusal.attempts, refusal.reason, refusal.position) == (3, "throttled", Position(1, 0))
    assert refusal.event_id == event_id(KEYS, Position(1, 0), Kind.UTTERANCE)
    assert settled.failure is not None  # the next one's own clock begins
    assert (settled.failure.attempts, settled.failure.first_s) == (1, 160.0)


def test_what_was_sent_of_a_fact_is_not_sent_again_with_the_rest() -> None:
    """Of a fact with two events the one that was taken is left out when the other is tried again."""
    found = lane(0, kinds=both_kinds)
    settled = settle(found, [SENT, LATER], None, NOW)
    assert found.position == OPENED
    again = lane(0, failure=settled.failure, kinds=both_kinds)
    assert [one.kind for one in again.due] == [Kind.BATCH_FAILED]
    settled = settle(again, [LATER], settled.failure, NOW)
    assert [one.kind for one in lane(0, failure=settled.failure, kinds=both_kinds).due] == [Kind.BATCH_FAILED]


def test_facts_that_cannot_be_read_are_set_aside_as_the_lane_comes_to_them() -> None:
    """An unreadable fact goes to the dead letters once everything before it is over with."""
    facts = [(position, encode(fact)) for position, fact in conversation(KEYS, 2)]
    facts[2] = (facts[2][0], b'{"event":"utterance_final.v9","text":"secret"}')
    first = opened(KEYS)[1]
    assert isinstance(first, SessionOpened)
    found = lane_of(pulled(KEYS, START, facts), first, transcript_kinds)
    assert found.finals is None  # one of them is missing
    assert found.take_aside() == []
    settle(found, [SENT], None, NOW)
    assert (found.position, found.take_aside()) == (Position(1, 0), [])
    settle(found, [SENT], None, NOW)
    assert found.take_aside() == [(Position(2, 0), "undecodable")]
    assert found.take_aside() == []


def test_facts_of_nobody_knows_whom_are_set_aside() -> None:
    """Where the first fact can't be read, those that could make events are set aside with that reason."""
    facts = [(position, encode(fact)) for position, fact in conversation(KEYS, 1)]
    facts[0] = (OPENED, b"{}")
    found = lane_of(pulled(KEYS, START, facts), None, transcript_kinds)
    assert not found.due
    assert found.take_aside() == [(OPENED, "undecodable"), (Position(1, 0), UNOPENED), (SEALED, UNOPENED)]


def test_a_defect_of_a_sink_costs_one_fact() -> None:
    """A fact at which `kinds` raises is set aside by the error's type alone, and the others go on."""

    def picky(_: SessionOpened, fact: Fact) -> Sequence[Kind]:
        if fact == final(0)[1]:
            raise LookupError(msgspec.json.encode(fact).decode())
        return transcript_kinds(_, fact)

    found = lane(2, kinds=picky)
    assert [one.position for one in found.due] == [Position(2, 0), SEALED]
    assert found.take_aside() == [(Position(1, 0), "LookupError")]
