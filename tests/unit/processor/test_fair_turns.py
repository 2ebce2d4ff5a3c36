"""Turns by tenant, then session."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from processor.fair_turns import FairTurns

NAMES = st.sampled_from("abc")


def filled(*items: tuple[str, str, int], cost: float = 1.0) -> FairTurns[tuple[str, str, int]]:
    """A queue with items of (tenant, session, number)."""
    turns = FairTurns[tuple[str, str, int]]()
    for item in items:
        turns.push(item, tenant=item[0], session=item[1], cost=cost)
    return turns


def test_tenants_take_turns_then_their_sessions() -> None:
    """A tenant with one session has as many turns as one with three, whose sessions share its turns (WORD-7)."""
    turns = filled(*(("many", session, number) for session in "xyz" for number in range(4)))
    for number in range(4):
        turns.push(("one", "w", number), tenant="one", session="w", cost=1.0)
    first = [turns.pop() for _ in range(8)]
    assert Counter(tenant for tenant, _, _ in first) == {"many": 4, "one": 4}
    assert Counter(session for tenant, session, _ in first if tenant == "many") == {"x": 2, "y": 1, "z": 1}


def test_a_newcomer_need_not_wait_for_a_backlog() -> None:
    """An item of a session without any other is next but one, however many of another wait."""
    turns = filled(*(("", "long", number) for number in range(50)))
    assert [turns.pop()[2] for _ in range(20)] == list(range(20))
    turns.push(("", "new", 0), tenant="", session="new", cost=1.0)
    assert ("", "new", 0) in [turns.pop(), turns.pop()]


def test_idle_time_earns_no_turns() -> None:
    """A session that had nothing for long gets no more turns in a row than another when it comes back."""
    turns = filled(("", "idle", 0), *(("", "busy", number) for number in range(100)))
    for _ in range(60):
        turns.pop()
    for number in range(10):
        turns.push(("", "idle", number), tenant="", session="idle", cost=1.0)
    names = [turns.pop()[1] for _ in range(10)]
    assert Counter(names) == {"busy": 5, "idle": 5}


def test_a_session_that_comes_back_at_once_has_had_its_turn() -> None:
    """A session with one item at a time gets no more than one with many: what it had is remembered."""
    turns = filled(*(("", "busy", number) for number in range(10)), ("", "quick", 0), cost=3.0)
    names = []
    for _ in range(8):
        names.append(turns.pop()[1])
        if names[-1] == "quick":
            turns.push(("", "quick", 0), tenant="", session="quick", cost=3.0)
    assert Counter(names) == {"busy": 4, "quick": 4}


def test_long_items_count_for_more() -> None:
    """A session whose items cost three times as much has a third of the turns."""
    turns = FairTurns[str]()
    for _ in range(30):
        turns.push("long", tenant="", session="long", cost=3.0)
        turns.push("short", tenant="", session="short", cost=1.0)
    counts = Counter(turns.pop() for _ in range(20))
    assert counts["short"] == 3 * counts["long"]


@given(st.lists(st.one_of(st.none(), st.tuples(NAMES, NAMES, st.floats(0.1, 9)))))
def test_nothing_is_lost_and_sessions_keep_their_order(steps: list[tuple[str, str, float] | None]) -> None:
    """Whatever is pushed comes out once, and that of one session in its order."""
    turns = FairTurns[tuple[str, str, int]]()
    pushed, popped = list[tuple[str, str, int]](), list[tuple[str, str, int]]()
    for number, step in enumerate(steps):
        if step is not None:
            tenant, session, cost = step
            pushed.append((tenant, session, number))
            turns.push(pushed[-1], tenant=tenant, session=session, cost=cost)
        elif turns:
            popped.append(turns.pop())
    assert sorted(turns) == sorted(set(pushed) - set(popped))
    assert len(turns) == len(pushed) - len(popped)
    popped += [turns.pop() for _ in range(len(turns))]
    for key in {one[:2] for one in pushed}:
        assert [one for one in popped if one[:2] == key] == [one for one in pushed if one[:2] == key]
    turns.push(("", "", 0), tenant="", session="", cost=1.0)
    turns.clear()
    assert not turns
