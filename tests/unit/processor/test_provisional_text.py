"""The provisional text of an open utterance: its pieces, and the words that stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.provisional_text import FIRST_VOICED_MS, Hypothesis, Piece, ProvisionalText
from processor.speech import OpenSpeech, Utterance

RATE_HZ = 16_000
START = 8_000
LEAD = 180 * 16


def utterance(voiced_ms: int, end_ms: int, *returns_ms: int, pause_ms: int = 0) -> Utterance:
    """An open utterance; voice came back at `returns_ms` after its start, each time after a short pause."""
    end = START + 16 * end_ms
    returns = tuple(START + 16 * at for at in returns_ms)
    return Utterance(START, end, end, bytes(2 * (end - START)), voiced_ms, pause_ms, returns)


def speech(one: Utterance) -> OpenSpeech:
    """The same without its samples."""
    pauses = len(one.short_pauses_samples) + (one.pause_ms >= 240)
    return OpenSpeech(one.start_samples, one.voiced_ms, one.pause_ms, pauses)


def heard(text: ProvisionalText, one: Utterance, words: str, confidence: float = 0.9) -> Hypothesis | None:
    """Recognise the next piece of an utterance as `words`."""
    piece = text.next_piece(one, RATE_HZ)
    text.note_recognised(piece, one)
    return text.add(piece, one, words, confidence)


def test_words_are_stable_once_two_hypotheses_agree() -> None:
    """Words that two successive hypotheses begin with are stable, and no others (WORD-4)."""
    text = ProvisionalText(START)
    assert heard(text, utterance(1_000, 1_500), "the cat sad") == Hypothesis("the cat sad", 0)
    assert heard(text, utterance(2_000, 2_500), "the cat sat on") == Hypothesis("the cat sat on", len("the cat"))
    found = heard(text, utterance(3_000, 3_500), "the cat sat on a")
    assert found == Hypothesis("the cat sat on a", len("the cat sat on"))


def test_the_last_word_is_not_stable_by_agreement() -> None:
    """A word with which both hypotheses end may be cut off in both, so it is stable once another follows (WORD-4)."""
    text = ProvisionalText(START)
    heard(text, utterance(1_000, 1_500), "the cat")
    assert heard(text, utterance(2_000, 2_500), "the cat") == Hypothesis("the cat", len("the"))
    assert heard(text, utterance(3_000, 3_500), "the cattle") == Hypothesis("the cattle", len("the"))


@pytest.mark.parametrize(
    ("reads", "published"),
    [
        ("a cat sat on a mat", "the cat sat on a mat"),
        ("the black cat sat on a mat", "the cat sat on a mat"),
        ("cat sat on a mat", "the cat sat on a mat"),
        ("The cat, sat on a mat", "the cat sat on a mat"),
        ("cat", "the cat"),
    ],
)
def test_stable_words_stay(reads: str, published: str) -> None:
    """A later hypothesis that reads otherwise adds what follows the stable words, and changes none of them (WORD-4)."""
    text = ProvisionalText(START)
    heard(text, utterance(1_000, 1_500), "the cat")
    heard(text, utterance(2_000, 2_500), "the cat sad")
    found = heard(text, utterance(3_000, 3_500), reads)
    assert found is not None
    assert (found.text, found.stable) == (published, len("the cat"))


def test_recognition_begins_at_the_last_pause() -> None:
    """What lies before a short pause is recognised once more when the pause has come, and then kept."""
    text = ProvisionalText(START)
    first = utterance(3_000, 3_500)
    assert text.next_piece(first, RATE_HZ) == Piece(START, first.end_samples, 0, is_last=False, voiced_ms=3_000)
    heard(text, first, "one too")
    paused = utterance(3_300, 4_000, pause_ms=270)
    assert text.has_pause(speech(paused))
    assert text.next_piece(paused, RATE_HZ) == Piece(START, paused.end_samples, 1, is_last=True, voiced_ms=3_300)
    assert heard(text, paused, "one two") == Hypothesis("one two", len("one two"))
    assert not text.has_pause(speech(paused))
    on = utterance(4_200, 5_000, 4_100)
    piece = text.next_piece(on, RATE_HZ)
    assert piece == Piece(START + 16 * 4_100 - LEAD, on.end_samples, 1, is_last=False, voiced_ms=900)
    assert heard(text, on, "three") == Hypothesis("one two three", len("one two"))


def test_a_short_piece_goes_on_over_a_pause() -> None:
    """A few words before a pause are recognised together with those behind it: they lack context by themselves."""
    text = ProvisionalText(START)
    heard(text, utterance(1_000, 1_500), "may be")
    assert not text.has_pause(speech(utterance(1_000, 1_900, pause_ms=300)))
    on = utterance(2_500, 3_500, 2_000)
    assert text.next_piece(on, RATE_HZ) == Piece(START, on.end_samples, 0, is_last=False, voiced_ms=2_500)


def test_a_doubtful_piece_is_not_stable() -> None:
    """Of a text that a pause follows only the agreed words are stable if the recogniser is unsure of it (WORD-4)."""
    text = ProvisionalText(START)
    heard(text, utterance(3_000, 3_500), "the cat sad")
    paused = utterance(3_800, 4_400, pause_ms=270)
    assert heard(text, paused, "the cat sat", confidence=0.5) == Hypothesis("the cat sat", len("the cat"))
    on = utterance(5_000, 6_000, 4_500)
    assert heard(text, on, "down again") == Hypothesis("the cat sat down again", len("the cat"))
    assert heard(text, utterance(5_500, 6_500, 4_500), "down again") is not None
    whole = utterance(6_000, 7_000, 4_500, pause_ms=330)
    found = text.add_whole(whole, "the cat sad down a gain", 0.5)
    assert found == Hypothesis("the cat sad down a gain", len("the cat")), "what is not stable may change"
    found = text.add_whole(whole, "the cat sat down again", 0.9)
    assert found == Hypothesis("the cat sat down again", len("the cat sat down again"))


def test_a_pause_that_was_missed_is_made_up_for() -> None:
    """Where voice came back before a piece was recognised, the piece ends before that, and the rest is news at once."""
    text = ProvisionalText(START)
    heard(text, utterance(1_000, 1_500), "one")
    on = utterance(4_500, 6_000, 2_000, 5_000)
    piece = text.next_piece(on, RATE_HZ)
    assert piece == Piece(START, START + 16 * 5_000 - LEAD, 2, is_last=True, voiced_ms=None)
    assert heard(text, on, "one two") == Hypothesis("one two", len("one two"))
    assert text.has_news(speech(on))
    assert text.next_piece(on, RATE_HZ).start_samples == START + 16 * 5_000 - LEAD


def test_silence_is_no_news() -> None:
    """Without another voiced frame nothing is to be recognised again, and a pause only once (WORD-5)."""
    text, one = ProvisionalText(START), utterance(1_000, 1_500)
    assert text.has_news(speech(one))
    heard(text, one, "word")
    assert not text.has_news(speech(one))
    paused = utterance(1_000, 1_900, pause_ms=400)
    assert not text.has_news(speech(paused))
    heard(text, paused, "word")
    assert not text.has_pause(speech(utterance(1_000, 1_900, pause_ms=690)))


def test_the_first_hypothesis_waits_for_a_word() -> None:
    """Less speech than a word or two has no hypothesis yet."""
    text = ProvisionalText(START)
    assert not text.has_news(speech(utterance(FIRST_VOICED_MS - 30, 900)))
    assert text.has_news(speech(utterance(FIRST_VOICED_MS, 900)))


def test_an_early_final_replaces_the_pieces() -> None:
    """The text of the whole utterance up to a pause is kept as its pieces are, behind the words that are stable."""
    text = ProvisionalText(START)
    heard(text, utterance(1_000, 1_500), "one")
    heard(text, utterance(1_500, 2_000), "one too")
    paused = utterance(1_800, 2_400, pause_ms=330)
    assert text.add_whole(paused, "One two.", 0.9) == Hypothesis("one two.", len("one two."))
    assert not text.has_pause(speech(paused))
    assert not text.has_news(speech(paused))
    assert text.next_piece(utterance(2_500, 3_500, 2_600), RATE_HZ).start_samples == START + 16 * 2_600 - LEAD


def test_a_text_without_words_changes_nothing() -> None:
    """Where the recogniser finds no words in speech that continues, the text before remains."""
    text = ProvisionalText(START)
    assert heard(text, utterance(1_000, 1_500), "one two") == Hypothesis("one two", 0)
    assert heard(text, utterance(2_000, 2_500), "") is None
    assert heard(text, utterance(3_000, 3_500), "one two three") == Hypothesis("one two three", len("one two"))


def test_what_comes_late_changes_nothing() -> None:
    """The text of a piece that arrives after a later one was kept is not published."""
    text = ProvisionalText(START)
    one = utterance(1_000, 1_500)
    piece = text.next_piece(one, RATE_HZ)
    text.add_whole(utterance(1_800, 2_400, pause_ms=330), "one two", 0.9)
    assert text.add(piece, one, "one", 0.9) is None
    twice = utterance(5_200, 6_400, 2_600, pause_ms=330)
    piece = text.next_piece(twice, RATE_HZ)
    assert text.add_whole(twice, "one two three", 0.9) == Hypothesis("one two three", len("one two three"))
    assert text.add(piece, twice, "three", 0.9) is None, "the early final was first"


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d."]), max_size=8).map(" ".join)


@given(st.lists(st.tuples(WORDS, st.sampled_from(["", "piece", "whole"]), st.sampled_from([0.5, 0.9])), max_size=12))
def test_stable_text_only_grows(hypotheses: list[tuple[str, str, float]]) -> None:
    """Whatever is recognised, the stable characters of a text are the begin of every later one (WORD-4)."""
    text, stable, voiced_ms, at_ms, returns = ProvisionalText(START), "", 0, 0, list[int]()
    for words, pause, confidence in hypotheses:
        voiced_ms, at_ms = voiced_ms + 1_100, at_ms + 1_500
        one = utterance(voiced_ms, at_ms, *returns, pause_ms=330 if pause else 0)
        if pause:
            returns.append(at_ms)
        is_whole = pause == "whole"
        found = text.add_whole(one, words, confidence) if is_whole else heard(text, one, words, confidence)
        if found is None:
            continue
        assert found.text.startswith(stable)
        assert len(stable) <= found.stable <= len(found.text)
        assert found.stable in {0, len(found.text)} or found.text[found.stable] == " ", "whole words"
        stable = found.text[: found.stable]
