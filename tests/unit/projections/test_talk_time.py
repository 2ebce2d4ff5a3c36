import msgspec

from projections.kafka.records import TranscriptUtterance
from projections.kafka.talk_time import Seen, counted, line, nothing, words_per_minute

SAID = TranscriptUtterance(
    version="1.0", tenant_id="t", session_id="s", utterance=0, text="one two  three", start=1.0, end=2.5, decided=3.0,
    confidence=0.9, speaker="1", channel=0,
)


def test_words_and_talk_add_up() -> None:
    """Words and seconds of talk of several utterances are summed, pauses between them left out."""
    spoken = counted(counted(nothing(), SAID), msgspec.structs.replace(SAID, start=60.1, end=60.4))
    assert spoken == {"words": 6, "talk_s": 1.8}
    assert round(words_per_minute(spoken)) == 200


def test_no_time_is_no_rate() -> None:
    """A window without talk has a rate of zero."""
    assert words_per_minute(nothing()) == 0
    assert words_per_minute(counted(nothing(), msgspec.structs.replace(SAID, end=1.0))) == 0


def test_what_is_told_holds_no_word() -> None:
    """The line for a speaker holds rate and talk time, and nothing of what was said."""
    assert line("s", "1", counted(nothing(), SAID)) == "s speaker 1: 120 words per minute, 1.5 s of talk"


def test_ids_are_remembered_within_a_bound() -> None:
    """An id that came is known until so many others came after it."""
    seen = Seen(2)
    assert [seen.is_new(one) for one in ("a", "b", "a", "c", "b", "a")] == [True, True, False, True, False, True]
