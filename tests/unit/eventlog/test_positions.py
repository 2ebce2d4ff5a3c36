import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.positions import OPENED, SEALED, START, Position

halves = st.integers(0, 2**64 - 1)
positions = st.builds(Position, halves, halves)


@given(positions)
def test_a_position_survives_its_entry_id(position: Position) -> None:
    """Written as an entry id and read again, as text or bytes, a position is the same."""
    assert Position.parse(str(position)) == Position.parse(str(position).encode()) == position


@given(positions, st.integers(1, 10**9))
def test_what_follows_comes_later(position: Position, count: int) -> None:
    """A control event and a chunk come after what they follow, and a chunk after any control event at its start."""
    assert position < position.control() < position.advanced(count)


def test_offsets_compare_as_numbers() -> None:
    """Positions are ordered as Redis orders ids: by number and not by text, the sequence last."""
    assert sorted([Position(10, 0), Position(9, 5), Position(9, 10)]) == [(9, 5), (9, 10), (10, 0)]


def test_the_named_positions_enclose_all_others() -> None:
    """The opening is the first id that Redis takes, the seal the largest one."""
    assert (str(START), str(OPENED)) == ("0-0", "0-1")
    assert str(SEALED) == "18446744073709551615-18446744073709551615"


@pytest.mark.parametrize("text", ["", "5", "-", "a-b", "5-", "-5", "1-2-3", b"\xff-1"])
def test_other_text_is_refused(text: str | bytes) -> None:
    """Text other than two integers with a hyphen between them is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - which text it is says enough
        Position.parse(text)
