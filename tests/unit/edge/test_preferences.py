"""What a `Prefer` header asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.ingest.preferences import Preferences, parse_preferences


@pytest.mark.parametrize(("headers", "expected"), [
    ([], Preferences()),
    (["respond-async"], Preferences(respond_async=True)),
    (["Respond-Async"], Preferences(respond_async=True)),
    (["wait=10"], Preferences(wait_s=10)),
    (['wait="10"'], Preferences(wait_s=10)),
    (["respond-async, wait=10"], Preferences(respond_async=True, wait_s=10)),
    (["wait = 10 , respond-async"], Preferences(respond_async=True, wait_s=10)),
    (["respond-async", "wait=10"], Preferences(respond_async=True, wait_s=10)),
    (["respond-async; depth=1; x"], Preferences(respond_async=True)),
    (['return=minimal; note="a, respond-async, wait=9", wait=3'], Preferences(wait_s=3)),
    (["wait=1, wait=2"], Preferences(wait_s=1)),
    (["wait=-1"], Preferences()),
    (["wait=1.5"], Preferences()),
    (["wait"], Preferences()),
    (["wait=1000000000000"], Preferences()),
    (["wait=\N{ARABIC-INDIC DIGIT ONE}"], Preferences()),
    (["respond-asynchronously"], Preferences()),
    (["respond async"], Preferences()),
    ([',,;=,"respond-async"'], Preferences()),
])  # fmt: skip
def test_preferences_are_read_as_the_standard_says(headers: list[str], expected: Preferences) -> None:
    """Preferences are parsed by RFC 7240: the first of a name counts, and malformed ones are ignored (BATCH-1)."""
    assert parse_preferences(headers) == expected


@given(headers=st.lists(st.text(max_size=200), max_size=3))
def test_no_header_is_too_odd(headers: list[str]) -> None:
    """Any text is read as some preferences."""
    assert isinstance(parse_preferences(headers), Preferences)


def test_long_headers_are_read_at_once() -> None:
    """A header as long as servers take, made to be read slowly, costs no more than its length."""
    for hostile in ('"' * 65_536, 'a="\\' * 16_384, "a" * 65_536, "wait=" + " " * 65_536 + "x", ('"' + "\\a") * 20_000):
        assert parse_preferences([hostile]) == Preferences()


@pytest.mark.parametrize(("preferences", "timeout_s", "applied", "applied_async"), [
    (Preferences(), 300, "", ""),
    (Preferences(respond_async=True), 0, "", "respond-async"),
    (Preferences(wait_s=10), 10, "wait=10", "wait=10"),
    (Preferences(respond_async=True, wait_s=10), 10, "wait=10", "respond-async, wait=10"),
    (Preferences(wait_s=900), 300, "", ""),
    (Preferences(wait_s=0), 0, "wait=0", "wait=0"),
])  # fmt: skip
def test_applied_preferences_are_named(
    preferences: Preferences, timeout_s: float, applied: str, applied_async: str
) -> None:
    """A request waits as long as it prefers, within the deployment's bound, and gets the applied ones (BATCH-1)."""
    assert preferences.timeout_s(300) == timeout_s
    assert preferences.applied(300, is_async=False) == applied
    assert preferences.applied(300, is_async=True) == applied_async
