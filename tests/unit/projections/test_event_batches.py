from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventlog.codec import encode
from eventlog.events import Fact, SessionOpened
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.projection.dead_letters import DeadLetter
from projections.forwarding.event_batches import (
    UNOPENED,
    UNREADABLE,
    Batch,
    Judge,
    Kinds,
    make_batch,
    make_redriven_batch,
)
from projections.forwarding.run_scheduler import Retry
from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Kind, event_id, make_event, transcript_kinds
from tests.integration.projections.facts import conversation, final, keys_of, opened, pulled

KEYS = keys_of("0b6a2c4e-3d0a-4a39-9d3f-2f6f5f4d3c2b")
LATER = Result(Outcome.RETRY, "throttled")
REJECTED = Result(Outcome.REJECTED, "too large")
SKIPPED = Result(Outcome.SKIPPED)
NOW = Judge("webhooks", "c1", now_s=100.0, now_ms=1_700_000_000_000, give_up_s=60.0)
DEAD_LETTER = DeadLetter(
    "webhooks", KEYS.partition, "1-1", KEYS, "1-0", "throttled", "c0", Kind.UTTERANCE.value, "an-id", 9
)


def both_kinds(_: SessionOpened, fact: Fact) -> Sequence[Kind]:
    """Two events of each end."""
    kinds = transcript_kinds(_, fact)
    return (*kinds, Kind.BATCH_FAILED) if Kind.SESSION_ENDED in kinds else kinds


def first_fact() -> SessionOpened:
    """The run's first fact."""
    fact = opened(KEYS)[1]
    assert isinstance(fact, SessionOpened)
    return fact


def a_batch(finals: int = 3, *, retry: Retry | None = None, kinds: Kinds = transcript_kinds) -> Batch:
    """All events of a run with so many finals."""
    facts = [(position, encode(fact)) for position, fact in conversation(KEYS, finals)]
    return make_batch(pulled(KEYS, START, facts), first_fact(), kinds, retry)


def test_a_batch_has_the_events_in_order() -> None:
    """Each fact that makes an event is pending after the fact before it, and one that makes none is skipped."""
    batch = a_batch(2)
    assert [(one.before, one.position) for one in batch.pending] == [
        (OPENED, Position(1, 0)), (Position(1, 0), Position(2, 0)), (Position(2, 0), SEALED),
    ]  # fmt: skip
    assert [final.text for final in batch.finals or ()] == ["words 0.", "words 1."]
    events = [make_event(one.kind, KEYS, first_fact(), (one.position, one.fact)) for one in batch.pending]
    assert [one.body.get("text") for one in events] == ["words 0.", "words 1.", None]


@given(outcomes=st.lists(st.sampled_from([SENT, SKIPPED, REJECTED]), max_size=4), is_cut=st.booleans())
def test_a_position_is_never_past_an_event_that_is_not_done_with(outcomes: list[Result], *, is_cut: bool) -> None:
    """The sink stands before the first event that it has yet to take, whatever the earlier results (BATCH-6)."""
    batch = a_batch(3)
    places = [one.before for one in batch.pending]
    results = [*outcomes, LATER][:4] if is_cut else outcomes
    progress = NOW.judge(batch, results, None)
    done = next((number for number, one in enumerate(results) if one is LATER), len(results))
    assert progress.position == (places[done] if done < len(places) else SEALED)
    assert len(progress.dead_letters) == sum(one is REJECTED for one in results[:done])
    assert progress.sent == sum(one is SENT for one in results[:done])
    assert (progress.retry is not None) == (done < len(results))


def test_an_event_is_given_up_after_the_bound() -> None:
    """An event is retried until the bound since its own first failure, then it is a dead letter (BATCH-6)."""
    batch = a_batch(1)
    retry = NOW.judge(batch, [LATER], None).retry
    assert retry is not None
    assert retry.attempts == 1
    retry = NOW._replace(now_s=159.0).judge(batch, [LATER], retry).retry
    assert retry is not None
    assert (retry.attempts, retry.since_s) == (2, 100.0)
    progress = NOW._replace(now_s=160.0).judge(batch, [LATER, LATER], retry)
    [dead_letter] = progress.dead_letters
    assert (dead_letter.attempts, dead_letter.reason, dead_letter.position) == (3, "throttled", Position(1, 0))
    assert (dead_letter.projection, dead_letter.consumer, dead_letter.at_ms) == ("webhooks", "c1", 1_700_000_000_000)
    assert dead_letter.event_id == event_id(KEYS, Position(1, 0), Kind.UTTERANCE)
    assert progress.retry is not None  # the next one's own clock begins
    assert (progress.retry.attempts, progress.retry.since_s) == (1, 160.0)


def test_an_event_of_a_fact_that_was_sent_is_not_sent_again_with_the_rest() -> None:
    """Of a fact with two events the one that was taken is left out when the other is retried."""
    batch = a_batch(0, kinds=both_kinds)
    progress = NOW.judge(batch, [SENT, LATER], None)
    assert progress.position == OPENED
    again = a_batch(0, retry=progress.retry, kinds=both_kinds)
    assert [one.kind for one in again.pending] == [Kind.BATCH_FAILED]
    progress = NOW.judge(again, [LATER], progress.retry)
    assert [one.kind for one in a_batch(0, retry=progress.retry, kinds=both_kinds).pending] == [Kind.BATCH_FAILED]


def test_unreadable_facts_are_dead_letters_as_the_batch_comes_to_them() -> None:
    """An unreadable fact goes to the dead letters once everything before it is done with."""
    facts = [(position, encode(fact)) for position, fact in conversation(KEYS, 2)]
    facts[2] = (facts[2][0], b'{"event":"utterance_final.v9","text":"secret"}')
    batch = make_batch(pulled(KEYS, START, facts), first_fact(), transcript_kinds)
    assert batch.finals is None  # one of them is missing
    assert dead_facts(batch, []) == []
    assert dead_facts(batch, [SENT]) == []
    assert dead_facts(batch, [SENT]) == [("2-0", "undecodable")]
    assert dead_facts(batch, []) == []


def dead_facts(batch: Batch, results: Sequence[Result]) -> list[tuple[str, str]]:
    """The facts that become dead letters with these results, and why."""
    dead_letters = NOW.judge(batch, results, None).dead_letters
    assert {one.kind for one in dead_letters} <= {""}
    return [(one.fact, one.reason) for one in dead_letters]


def test_facts_of_an_unknown_session_are_dead_letters() -> None:
    """Where the first fact can't be read, those that could make events are dead letters with that reason."""
    facts = [(position, encode(fact)) for position, fact in conversation(KEYS, 1)]
    facts[0] = (OPENED, b"{}")
    batch = make_batch(pulled(KEYS, START, facts), None, transcript_kinds)
    assert not batch.pending
    assert dead_facts(batch, []) == [(str(OPENED), "undecodable"), ("1-0", UNOPENED), (str(SEALED), UNOPENED)]


def raises_at_first(_: SessionOpened, fact: Fact) -> Sequence[Kind]:
    """A defect at the first final."""
    if fact == final(0)[1]:
        raise LookupError(msgspec.json.encode(fact).decode())
    return transcript_kinds(_, fact)


def test_a_defect_of_a_sink_costs_one_fact() -> None:
    """A fact at which `kinds` raises is a dead letter by the error's type alone, and the others continue."""
    batch = a_batch(2, kinds=raises_at_first)
    assert [one.position for one in batch.pending] == [Position(2, 0), SEALED]
    assert dead_facts(batch, []) == [("1-0", "LookupError")]


def test_a_redriven_dead_letter_ends_once_it_is_sent() -> None:
    """A redriven letter makes its one event, and has no reason any more when the sink takes it."""
    batch = make_redriven_batch(DEAD_LETTER, first_fact(), final(0)[1], both_kinds)
    assert [one.kind for one in batch.pending] == [Kind.UTTERANCE]
    progress = NOW.judge(batch, [LATER], None)
    assert progress.redriven is None
    assert progress.retry is not None
    progress = NOW.judge(batch, [SENT], progress.retry)
    assert progress.redriven == DEAD_LETTER._replace(reason="")


def test_a_redriven_dead_letter_that_is_rejected_has_the_new_reason() -> None:
    """A redriven letter whose event is given up again keeps its place and gets the new reason."""
    batch = make_redriven_batch(DEAD_LETTER, first_fact(), final(0)[1], transcript_kinds)
    progress = NOW.judge(batch, [REJECTED], None)
    assert progress.redriven == DEAD_LETTER._replace(reason="too large", attempts=1, at_ms=NOW.now_ms)


def test_a_redriven_dead_letter_without_an_event_is_a_dead_letter_again() -> None:
    """A letter without a readable fact, session or kind, or at which the sink raises, comes back with that reason."""
    for batch in (
        make_redriven_batch(DEAD_LETTER, None, final(0)[1], transcript_kinds),
        make_redriven_batch(DEAD_LETTER, first_fact(), None, transcript_kinds),
        make_redriven_batch(DEAD_LETTER._replace(kind="Unknown"), first_fact(), final(0)[1], transcript_kinds),
        make_redriven_batch(DEAD_LETTER._replace(kind=""), first_fact(), final(0)[1], raises_at_first),
    ):
        redriven = NOW.judge(batch, [], None).redriven
        assert redriven is not None
        assert (redriven.reason, redriven.entry_id, redriven.at_ms) == (UNREADABLE, "1-1", NOW.now_ms)
