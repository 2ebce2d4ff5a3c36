"""Word errors and lost ends."""

import pytest

from benchmarks.wer import Errors, lost_ends, normalised, word_error_rate, word_errors


@pytest.mark.parametrize(("text", "words"), [
    ("Mr. Dashwood, ill-disposed!", ["mister", "dashwood", "ill", "disposed"]),
    ("In 1455 the 42-line Bible", ["in", "fourteen", "fifty", "five", "the", "forty", "two", "line", "bible"]),
    ("1900 and 7", ["nineteen", "hundred", "and", "seven"]),
    ("don't\nstop", ["don't", "stop"]),
])  # fmt: skip
def test_texts_are_normalised(text: str, words: list[str]) -> None:
    """Case, punctuation, hyphens, abbreviations and numerals make no errors."""
    assert normalised(text) == words


def test_digits_are_compared_one_by_one() -> None:
    """A recording of single digits has no errors, however they are written together."""
    assert word_errors("six two eight eight", "6, 28, 8.").total == 0
    assert word_errors("six two eight eight", "62,88") == Errors(spoken=4)
    assert word_errors("six two eight eight", "6 2 8") == Errors(deletions=1, spoken=4)


def test_errors_are_told_apart() -> None:
    """Substitutions, deletions and insertions are counted apart, and add up over texts."""
    assert word_errors("a b c d", "a x c d e") == Errors(substitutions=1, insertions=1, spoken=4)
    assert word_error_rate([("a b", "a"), ("c d", "c d")]) == 0.25
    assert word_error_rate([]) == 0


@pytest.mark.parametrize(("utterances", "lost"), [
    (["a b c d", "e f g h"], 0),
    (["a", "e f g h"], 1),
    (["a b", "e f g h"], 0),
    (["a b c d", "e"], 1),
    (["a", "e"], 2),
    (["a e f g h"], 0),
])  # fmt: skip
def test_lost_ends_are_counted(utterances: list[str], lost: int) -> None:
    """WORD-1: three spoken words or more that are missing where an utterance ends are a lost end."""
    assert lost_ends("a b c d e f g h", utterances) == lost
