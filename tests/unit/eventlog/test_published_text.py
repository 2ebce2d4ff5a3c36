"""Numbers as digits, and profanities masked, in texts and words as they are published."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.events import UtteranceFinal, Word
from eventlog.text.numerals import to_digits
from eventlog.text.published import publish_final, publish_partial, publish_text

UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]  # fmt: skip
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def digits(text: str) -> str:
    """The text with numbers as digits."""
    return publish_text(text, "en", numerals=True, profanity_filter=False)


def masked(text: str, language: str = "en") -> str:
    """The text with profanities masked."""
    return publish_text(text, language, numerals=False, profanity_filter=True)


def spelled(value: int, link: str) -> str:
    """A number in words, `link` between hundreds and the rest."""
    for name, scale in (("billion", 10**9), ("million", 10**6), ("thousand", 10**3)):
        if value >= scale:
            rest = value % scale
            joined = link if 0 < rest < 100 else " "
            return f"{spelled(value // scale, link)} {name}" + (f"{joined}{spelled(rest, link)}" if rest else "")
    if value >= 100:
        return f"{UNITS[value // 100]} hundred" + (f"{link}{spelled(value % 100, link)}" if value % 100 else "")
    if value < 20:
        return UNITS[value]
    return TENS[value // 10] + (f"-{UNITS[value % 10]}" if value % 10 else "")


@given(st.integers(2, 10**12 - 1) | st.integers(2, 10_000), st.sampled_from([" ", " and "]))
def test_every_number_is_read(value: int, link: str) -> None:
    """A cardinal number in words is its digits, with hyphens and "and" or without (WORD-8)."""
    found = digits(f"There were {spelled(value, link)} of them.")
    shown = found.removeprefix("There were ").removesuffix(" of them.")
    for name, scale in (("million", 10**6), ("billion", 10**9), ("thousand", 10**3)):
        if shown.endswith(name):
            shown = str(int(shown.split()[0]) * scale)
    assert shown.replace(",", "") == str(value)


@pytest.mark.parametrize(("text", "shown"), [
    ("Twenty-three cats, two dogs.", "23 cats, 2 dogs."),
    ("In nineteen eighty-four, and twenty twenty-four.", "In 1984, and 2024."),
    ("It was nineteen oh five.", "It was 1905."),
    ("three point one four", "3.14"),
    ("zero point five", "0.5"),
    ("five five five one two", "5 5 5 1 2"),
    ("the twenty-first and the tenth", "the 21st and the 10th"),
    ("a hundred and fifty", "150"),
    ("twelve million, two hundred thousand", "12 million, 200,000"),
    ("one or two, one two, one", "1 or 2, 1 2, 1"),
    ('He said "Twenty," and left.', 'He said "20," and left.'),
])  # fmt: skip
def test_numbers_are_digits(text: str, shown: str) -> None:
    """Years, decimals, ordinals and single digits read as people write them (WORD-8)."""
    assert digits(text) == shown


@pytest.mark.parametrize("text", [
    "No one wants this one, one day.", "a second, at first, a third of it", "one hundredth of it", "to the point",
    "a dog and the cat", "twenty-first-century art", "hundreds of thousands",
])  # fmt: skip
def test_words_that_only_look_like_numbers_stay(text: str) -> None:
    """Pronouns, fractions and seconds of time are no numbers (WORD-8)."""
    assert digits(text) == text


def test_a_second_is_no_ordinal() -> None:
    """A time unit behind a number stays a word, a hyphen makes it an ordinal (WORD-8)."""
    assert digits("a thirty second delay, the thirty-second time") == "a 30 second delay, the 32nd time"


@given(st.lists(st.sampled_from([*UNITS, *TENS[2:], "hundred", "thousand", "million", "and", "point", "a", "oh", "x.",
                                 "second", "fifth", "twenty-one", "twenty-", "one,", "(two", "-", "3"])))  # fmt: skip
def test_tokens_are_parted_in_order(tokens: list[str]) -> None:
    """Whatever stands beside each other, each token goes into one token of the result, in order (WORD-8)."""
    found = to_digits(tokens)
    assert [place for first, end, _ in found for place in range(first, end)] == list(range(len(tokens)))
    assert all(text for _, _, text in found)


def test_other_languages_keep_their_numbers() -> None:
    """Only English numbers are known; a text of another language is left alone (WORD-8)."""
    assert publish_text("six cent dix", "fr", numerals=True, profanity_filter=False) == "six cent dix"


@pytest.mark.parametrize(("text", "shown", "language"), [
    ("What the fuck, man?", "What the f***, man?", "en"),
    ("“SHIT!” Bullshit's (asshole)", "“S***!” B***'s (a***)", "en-US"),
    ("So ein Scheißtag, du Arschloch.", "So ein Scheißtag, du A***.", "de"),
    ("Quelle merde !", "Quelle m*** !", "fr"),
    ("Scunthorpe, cockpit, assess, Dick", "Scunthorpe, cockpit, assess, Dick", "en"),
    ("merde", "merde", "en"), ("shit", "s***", ""), ("shit", "shit", "xx"),
])  # fmt: skip
def test_profanities_are_masked(text: str, shown: str, language: str) -> None:
    """A profanity of the text's language keeps its first letter and punctuation; parts of words stay (WORD-8)."""
    assert masked(text, language) == shown


FINAL = UtteranceFinal(
    utterance=0, channel=0, start_samples=0, end_samples=500, decided_samples=600, sample_rate_hz=100,
    text="Twenty three fucking cats.", confidence=0.9, speaker="1", language="en", words=(
        Word("Twenty", 10, 20, 0.9), Word("three", 25, 30, 0.5), Word("fucking", 30, 40, 0.8),
        Word("cats.", 40, 50, 1.0),
    ),
)  # fmt: skip


def test_words_are_published_like_their_text() -> None:
    """A number of two words is one with the times of both; a masked word keeps its own (WORD-8)."""
    both = publish_final(msgspec.structs.replace(FINAL, numerals=True, profanity_filter=True))
    assert both.text == "23 f*** cats."
    assert both.words == (Word("23", 10, 30, 0.5), Word("f***", 30, 40, 0.8), Word("cats.", 40, 50, 1.0))
    assert publish_final(FINAL) is FINAL


def test_a_number_that_may_grow_is_not_stable() -> None:
    """Of a partial only what no further word can change is stable as published (WORD-4, WORD-8)."""
    text = "I have twenty three"
    assert publish_partial(text, len("I have twenty"), "en", numerals=True, profanity_filter=False) == (
        "I have 23", len("I have 2"),
    )
    assert publish_partial(text, 6, "en", numerals=False, profanity_filter=False) == (text, 6)
    assert publish_partial("shit happens", 4, "en", numerals=False, profanity_filter=True) == ("s*** happens", 4)
