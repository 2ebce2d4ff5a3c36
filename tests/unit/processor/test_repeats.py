import pytest

from processor.speech.repeats import excess

PHRASE = ["he", "might", "have"]


def edges(lengths_s: list[float]) -> list[float]:
    """Return where each word of repeated phrases begins, and where the last ends: each word has a third."""
    found, at_s = [0.0], 0.0
    for length_s in lengths_s:
        found += [at_s + length_s * part / 3 for part in (1, 2, 3)]
        at_s += length_s
    return found


@pytest.mark.parametrize(
    ("lengths_s", "dropped"),
    [
        ([0.96] * 5, []),
        ([0.96, 0.96, 0.96, 0.18, 0.78, 1.14], [(9, 12)]),
        ([0.8, 0.78, 0.68, 0.06, 1.0, 0.85], [(9, 12)]),
        ([0.8, 1.6, 0.02, 0.78, 0.97], []),
        ([0.96, 0.96, 0.1], []),
    ],
)
def test_repeats_without_time_are_dropped(lengths_s: list[float], dropped: list[tuple[int, int]]) -> None:
    """WORD-2: a phrase comes as often as it has time; a repeat whose time lies with its neighbour stays."""
    assert excess(PHRASE * len(lengths_s), edges(lengths_s)) == dropped


def test_words_around_repeats_stay() -> None:
    """WORD-2: only the repeats themselves are dropped, wherever in the text they are."""
    words = ["well", *["no"] * 6, "he", "said"]
    starts_s = [0.0, 0.5, 1.0, 1.5, 2.0, 2.02, 2.5, 3.0, 3.4, 4.0]
    assert excess(words, starts_s) == [(5, 6)] or excess(words, starts_s) == [(4, 5)]
    assert excess(["a", "b", "c"], [0.0, 0.1, 0.2, 0.3]) == []
    assert excess([], [0.0]) == []
