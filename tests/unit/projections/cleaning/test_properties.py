"""Properties of any text, in any language."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.cleaning import clean
from tests.unit.projections.cleaning.spoken import said

SPEECH = """
I i I'm we We should go the The th-the w-w-we um Um, uh, uh. you know you know, had had, that very no, no. seven 7
and, and on on, Mr. e.g. The. ... … , . hm? the- etc mr ER iPhone ß ŉa İ I. U.S. a.b hello,world ,x ?y what? 你好 。
です สวัสดี 'cause don't pro- probably
""".split()  # noqa: SIM905 - a list of so many words is hard to read
ODD = [*SPEECH, "-", "—", '"', "«", "(", ")", "[music]", "[MUSIC]", "*sighs*", "♪", "\u0301", "\ud800", "\x00"]
TEXTS = st.one_of(st.lists(st.sampled_from(ODD), max_size=25).map(" ".join), st.text(max_size=60))
LANGUAGES = st.sampled_from(["en", "en-GB", "de", "fr", "es", "nl", "tr", "zh", "xx", ""])
LONG_S = 60.0
"""Bound for a megabyte on a machine that does much else; what backtracks would take hours."""


def words(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return [word.casefold() for word in re.findall(r"\w+", text)]


@given(st.lists(TEXTS, max_size=5), LANGUAGES, st.sampled_from([0.1, 3.0]))
def test_no_word_is_added(texts: list[str], language: str, pause_s: float) -> None:
    """BATCH-3: the words of the readable text are those of the raw one, in the same order, some left out."""
    raw = iter(words(" ".join(texts)))
    assert all(word in raw for word in words(clean(said(*texts, pause_s=pause_s), language)))


# A filler within a phrase ("you um know, I") leaves the phrase, which a second look would take out.
@given(st.lists(st.sampled_from([word for word in SPEECH if word != "know,"]), max_size=25).map(" ".join), LANGUAGES)
def test_a_clean_text_stays(text: str, language: str) -> None:
    """Readable text that is cleaned again is unchanged, except for a phrase that a filler had parted."""
    once = clean(said(text), language)
    assert clean(said(once), language) == once


@given(st.lists(st.from_regex(r"[A-Z][a-z]{2,9}( [b-z][a-z]{2,9}){2,5}\.", fullmatch=True), min_size=1, max_size=4))
def test_tidy_sentences_of_an_unknown_language_stay(texts: list[str]) -> None:
    """Where no table is known, tidy sentences come out as they went in."""
    assert clean(said(*texts), "xx") == " ".join(texts)


@pytest.mark.parametrize("piece", [
    "a", "um, ", "we should ", "-", "[a", ".", "a,", "you know, ", "I, ", "word. ", "I-", "\u0301",
])  # fmt: skip
def test_time_grows_with_the_length_alone(piece: str) -> None:
    """A megabyte of whatever is repeated is cleaned in seconds."""
    text = piece * (1_000_000 // len(piece)) + "x"
    started = time.process_time()
    clean(said(text), "en")
    assert time.process_time() - started < LONG_S
