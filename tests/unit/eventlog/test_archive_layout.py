from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.archive import layout

texts = st.text(st.characters(codec="utf-8"), max_size=150)


@given(texts)
@example("..")
@example("../../etc")
@example("")
@example("a/b" * 100)
def test_any_text_is_one_part_of_a_name(text: str) -> None:
    """SAFE-4: any tenant and session id gives name parts without slashes, not of dots alone, and of bounded length."""
    part = layout.segment(text)
    assert "/" not in part
    assert part not in {".", ".."}
    assert len(part) <= layout.MAX_SEGMENT_CHARS
    assert part.isascii()


@given(texts, texts)
def test_different_texts_are_different_parts(one: str, other: str) -> None:
    """No tenant's markers stand in another's folder."""
    assert (layout.segment(one) == layout.segment(other)) == (one == other)


@given(texts, st.integers(0, 4_102_444_800_000), st.uuids().map(str))
def test_a_marker_names_its_session(tenant_id: str, started_ms: int, session_id: str) -> None:
    """A marker's name has the session, time and day, and lies in its tenant's folder of the day."""
    name = layout.marker_name(tenant_id, started_ms, session_id)
    found = layout.parse_marker(name)
    assert found is not None
    assert (found.started_ms, layout.session_id_of(found)) == (started_ms, session_id)
    assert name.startswith(f"{layout.tenant_folder(layout.day_of(started_ms), tenant_id)}/")
    assert name.startswith(f"{layout.day_folder(found.day)}/")


def test_days_are_those_of_utc() -> None:
    """A day begins at midnight UTC, wherever this runs."""
    assert (layout.day_of(1_763_769_599_999), layout.day_of(1_763_769_600_000)) == ("2025-11-21", "2025-11-22")


def test_other_names_are_no_markers() -> None:
    """Other names in a directory are no markers."""
    for name in ("index/x", "index/date=1/tenant=a/x-y/z", "index/date=1/tenant=a/x-y", "other/date=1/tenant=a/1-x"):
        assert layout.parse_marker(name) is None
