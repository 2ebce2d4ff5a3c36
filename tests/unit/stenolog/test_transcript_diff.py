"""Word error rates: examples worked out by hand, and rules for any two transcripts."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventlog.events import UtteranceFinal, Word
from stenolog.operations.transcript_diff import (
    DELETED,
    EQUAL,
    INSERTED,
    SUBSTITUTED,
    Counts,
    Ignored,
    Stretch,
    compared,
    counts,
    words_of,
)

EXACTLY = Ignored()


def finals(*texts: str, channel: int = 0) -> list[UtteranceFinal]:
    """Utterances of two seconds each."""
    final = UtteranceFinal(
        utterance=0, channel=channel, start_samples=0, end_samples=0, decided_samples=0, sample_rate_hz=10,
        text="", confidence=1.0, speaker="1",
    )  # fmt: skip
    return [
        msgspec.structs.replace(final, utterance=number, start_samples=20 * number, text=text)
        for number, text in enumerate(texts)
    ]


def stretches(first: str, second: str, ignored: Ignored = EXACTLY) -> list[Stretch]:
    """Two transcripts of one channel, compared."""
    return compared(words_of(finals(first), ignored), words_of(finals(second), ignored))


def errors(first: str, second: str, ignored: Ignored = EXACTLY) -> tuple[int, int, int, float | None]:
    """Substitutions, deletions, insertions and the rate."""
    found = counts(stretches(first, second, ignored))
    return found.substitutions, found.deletions, found.insertions, found.wer


def test_errors_are_as_counted_by_hand() -> None:
    """REPLAY-1: substitutions, deletions, insertions and their rate are those that the definition gives."""
    assert errors("the cat sat on the mat", "the cat sat on the mat") == (0, 0, 0, 0.0)
    assert errors("the cat sat on the mat", "the bat sat on mat") == (1, 1, 0, 0.3333)
    assert errors("the cat sat", "oh the cat sat down") == (0, 0, 2, 0.6667)
    assert errors("one two three four", "one four") == (0, 2, 0, 0.5)
    assert errors("x a b c y z", "a y z") == (0, 3, 0, 0.5)
    assert errors("kitten sits", "sitting kit ten") == (2, 0, 1, 1.5)
    assert errors("", "") == (0, 0, 0, 0.0)
    assert errors("a b", "") == (0, 2, 0, 1.0)
    assert errors("", "a") == (0, 0, 1, None)


def test_a_difference_has_the_time_of_its_word() -> None:
    """REPLAY-1: it is its first word's; a run of older facts, without words, gives its utterance's (WORD-3)."""
    [plain] = finals("the cat sat")
    plain = msgspec.structs.replace(plain, start_samples=20)
    timed = msgspec.structs.replace(plain, words=tuple(
        Word(text, 20 + 5 * place, 24 + 5 * place, 1.0) for place, text in enumerate(plain.text.split())
    ))  # fmt: skip
    for final, starts in ((plain, [2.0, 2.0, 2.0]), (timed, [2.0, 2.5, 3.0])):
        assert [word.start_s for word in words_of([final], EXACTLY)[0]] == starts


def test_differences_stand_where_they_are() -> None:
    """REPLAY-1: what agrees and what differs come in order, with the words as they were said."""
    found = [
        (one.kind, " ".join(word.text for word in one.first), " ".join(word.text for word in one.second))
        for one in stretches("We saw the old house again", "We saw a house again today")
    ]
    assert found == [
        (EQUAL, "We saw", "We saw"), (DELETED, "the", ""), (SUBSTITUTED, "old", "a"),
        (EQUAL, "house again", "house again"), (INSERTED, "", "today"),
    ]  # fmt: skip


def test_case_and_punctuation_count_unless_they_are_ignored() -> None:
    """REPLAY-1: each makes a difference of its own, until it is ignored; a lone dash is a word only if it counts."""
    one, other = "Well, it's \u2013 fine.", "well it\u2019s fine"
    assert errors(one, other) == (3, 1, 0, 1.0)
    assert errors(one, other, Ignored(case=True)) == (3, 1, 0, 1.0)
    assert errors(one, other, Ignored(punctuation=True)) == (1, 0, 0, 0.3333)
    assert errors(one, other, Ignored(case=True, punctuation=True)) == (0, 0, 0, 0.0)
    assert errors("caf\u00e9", "cafe\u0301") == (0, 0, 0, 0.0)


def test_channels_are_compared_apart() -> None:
    """REPLAY-1: in which order two channels' utterances come makes no difference."""
    left, right = finals("good morning", "how are you"), finals("hello there", channel=1)
    first, second = [left[0], *right, left[1]], [*right, *left]
    for final in second:
        assert final in first
    found = compared(words_of(first, EXACTLY), words_of(second, EXACTLY))
    assert counts(found) == Counts(words_a=7, words_b=7, wer=0.0)
    assert {one.channel for one in found} == {0, 1}


def test_counts_add_up() -> None:
    """REPLAY-1: the rate of several sessions is that of all their words together, not the mean of their rates."""
    one, other = counts(stretches("a b c d", "a b c x")), counts(stretches("a", "b"))
    assert (one + other) == Counts(words_a=5, words_b=5, substitutions=2, wer=0.4)


words = st.lists(st.sampled_from(["a", "b", "c", "A", "a,", "\u2013", "é"]), max_size=12).map(" ".join)
ignoring = st.builds(Ignored, st.booleans(), st.booleans())


@given(words, words, ignoring)
def test_a_comparison_holds_both_transcripts(one: str, other: str, ignored: Ignored) -> None:
    """REPLAY-1: the stretches put together are both transcripts, and those that agree have equal words."""
    found = stretches(one, other, ignored)
    for side, text in (("first", one), ("second", other)):
        output = [word.text for stretch in found for word in getattr(stretch, side)]
        assert output == [word for word in text.split() if ignored.key(word)]
    for stretch in found:
        agree = [word.key for word in stretch.first] == [word.key for word in stretch.second]
        assert agree == (stretch.kind == EQUAL)


@given(words, words, ignoring)
def test_comparing_the_other_way_round_mirrors(one: str, other: str, ignored: Ignored) -> None:
    """REPLAY-1: the other way round has as many substitutions, and deletions for insertions; none with itself."""
    there, back = errors(one, other, ignored)[:3], errors(other, one, ignored)[:3]
    assert there == (back[0], back[2], back[1])
    assert errors(one, one, ignored) == (0, 0, 0, 0.0)


@given(words, words)
def test_no_fewer_errors_would_do(one: str, other: str) -> None:
    """REPLAY-1: the errors are as few as the textbook's table of distances says."""
    first, second = one.split(), other.split()
    row = list(range(len(second) + 1))
    for number, word in enumerate(first, 1):
        above, row[0] = row[0], number
        for place, there in enumerate(second, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (word != there))
    assert counts(stretches(one, other)).errors == row[-1]
