"""Paragraphs, languages, and the corners of each rule."""

import pytest

from projections.cleaning import PARAGRAPH_PAUSE_S, clean
from tests.unit.projections.cleaning.spoken import said


def in_english(*texts: str) -> str:
    """The readable text of utterances with short pauses."""
    return clean(said(*texts), "en")


def test_nothing_said_is_nothing() -> None:
    """No utterance, an empty one, and one of fillers, sounds or marks alone give an empty text."""
    assert [clean([], "en"), *map(in_english, ["", "Um.", "[MUSIC]", "... -"])] == [""] * 5


def test_long_pauses_begin_paragraphs() -> None:
    """BATCH-3: a pause of the stated length begins a paragraph, a shorter one doesn't."""
    texts = ("It was late.", "We left.")
    assert clean(said(*texts, pause_s=PARAGRAPH_PAUSE_S), "en") == "It was late.\n\nWe left."
    assert clean(said(*texts, pause_s=PARAGRAPH_PAUSE_S - 0.1), "en") == "It was late. We left."


@pytest.mark.parametrize("voices", [[(0, "1"), (1, "1")], [(0, "1"), (0, "2")]])
def test_another_voice_begins_a_paragraph(voices: list[tuple[int, str]]) -> None:
    """Another channel or another speaker begins a paragraph, also in mid-sentence."""
    assert clean(said("I went to the", "the what?", voices=voices), "en") == "I went to the…\n\nThe what?"


def test_labels_of_audio_are_no_voices() -> None:
    """Labels by hash, of which each utterance has another, begin no paragraph."""
    voices = [(0, "speaker-0a1b"), (0, "speaker-ffff")]
    assert clean(said("Yes.", "No.", voices=voices), "en") == "Yes. No."


def test_a_pause_in_mid_sentence_begins_no_paragraph() -> None:
    """A speaker's long pause after "the" is still within the same sentence."""
    assert clean(said("I went to the", "Station, then.", pause_s=9), "en") == "I went to the Station, then."


def test_an_utterance_of_fillers_breaks_no_sentence() -> None:
    """An utterance of a filler alone leaves the sentence around it whole."""
    assert in_english("I went to the", "Um.", "station.") == "I went to the station."


def test_a_capital_at_a_mended_seam_is_lowered_if_the_word_occurs_in_lower_case() -> None:
    """After a repaired seam a word is written small if it is a function word or was small elsewhere, else as it was."""
    assert in_english("This is my", "Station and the.", "For sale.") == "This is my Station and the for sale."
    assert in_english("A train to my", "Train or my", "House") == "A train to my train or my House."


@pytest.mark.parametrize(("before", "after"), [
    ("So, um. I went.", "So. I went."),
    ("What was that, um?", "What was that?"),
    ('"Um, hello," he said.', '"Hello," he said.'),
    ("he said, uh... okay", "He said, okay."),
    ("I, um... Never mind.", "I... Never mind."),
    ("it is in the, uh... kitchen", "It is in the kitchen."),
    ("and, uh, you know, talk", "And talk."),
    ("You know, right?", "You know, right?"),
    ("it was fine, um, but late", "It was fine, but late."),
    ("Ummm, uhhh, hmmm, erm yes", "Yes."),
])  # fmt: skip
def test_fillers_leave_the_punctuation_right(before: str, after: str) -> None:
    """The marks around a filler go to its neighbours, and the commas that set it off are removed."""
    assert in_english(before) == after


@pytest.mark.parametrize(("before", "after"), [
    ("the the the the end", "The end."),
    ("the... the end", "The end."),
    ("the. The end", "The. The end."),
    ("I want to I want to I want to go", "I want to go."),
    ("I was, I was, I was going", "I was going."),
    ("I want one and one and one more", "I want one and one and one more."),
    ("press the five the five and one", "Press the five the five and one."),
    ("it went on and on and on and we left", "It went on and on and on and we left."),
    ("when I said when I said it", "When I said it."),
    ('he said "I" I think', 'He said "I" I think.'),
    ("plan A, a good one", "Plan A, a good one."),
    ("it, it was", "It was."),
    ("I told you you saw this this week", "I told you you saw this this week."),
    ("the books we have have come", "The books we have have come."),
    ("Will will go", "Will will go."),
    ("tsk-tsk, w-we went", "Tsk-tsk, we went."),
    ("I-I-I let me, let me, let me say w-what", "I let me say what."),
    ("is it, uh, is it done?", "Is it done?"),
    ("that ha-ha and no-no and so-so man", "That ha-ha and no-no and so-so man."),
])  # fmt: skip
def test_stutters_are_distinguished_from_repetitions(before: str, after: str) -> None:
    """BATCH-3: a word or phrase begun twice is kept once, a repetition that is meant stays."""
    assert in_english(before) == after


@pytest.mark.parametrize(("language", "before", "after"), [
    ("de-AT", "Ähm, ich ich gehe um um die die Ecke", "Ich gehe um um die die Ecke."),
    ("fr", "Euh, nous nous levons , je je crois ?", "Nous nous levons, je crois\u00a0?"),
    ("es", "Mm, el el coche. No no.", "El coche. No no."),
    ("nl", "uhm ik ik ga", "Ik ik ga."),
    ("tr", "istanbul güzel", "istanbul güzel."),
    ("zh", "你好", "你好。"),
    ("hi", "नमस्ते", "नमस्ते।"),
    ("th", "สวัสดี", "สวัสดี"),
    ("", "um the the", "Um the the."),
])  # fmt: skip
def test_each_language_has_its_own_rules(language: str, before: str, after: str) -> None:
    """Fillers, stutters and stops are those of the language; one that isn't known keeps all its words."""
    assert clean(said(before), language) == after


@pytest.mark.parametrize("text", ["Dr. smith came.", "He lives at no. five.", "Wait... what?", "J. smith came."])
def test_abbreviations_end_no_sentence(text: str) -> None:
    """After an abbreviation, an initial or an ellipsis nothing is capitalised."""
    assert in_english(text) == text
