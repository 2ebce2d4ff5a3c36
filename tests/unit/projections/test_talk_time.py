import msgspec

from projections.kafka.records import TranscriptUtterance
from projections.kafka.talk_time import RecentIds, add_utterance, format_line, no_talk, words_per_minute

SAID = TranscriptUtterance(
    version="1.0", tenant_id="t", session_id="s", utterance=0, text="one two  three", start=1.0, end=2.5, decided=3.0,
    confidence=0.9, speaker="1", channel=0,
)


def test_words_and_talk_add_up() -> None:
    """Words and seconds of talk of several utterances are summed, pauses between them left out."""
    talk = add_utterance(add_utterance(no_talk(), SAID), msgspec.structs.replace(SAID, start=60.1, end=60.4))
    assert talk == {"words": 6, "talk_s": 1.8}
    assert round(words_per_minute(talk)) == 200


def test_no_time_is_no_rate() -> None:
    """A window without talk has a rate of zero."""
    assert words_per_minute(no_talk()) == 0
    assert words_per_minute(add_utterance(no_talk(), msgspec.structs.replace(SAID, end=1.0))) == 0


def test_the_line_holds_no_word() -> None:
    """The line for a speaker holds rate and talk time, and no speech."""
    assert format_line("s", "1", add_utterance(no_talk(), SAID)) == "s speaker 1: 120 words per minute, 1.5 s of talk"


def test_ids_are_remembered_within_a_bound() -> None:
    """An id that came is known until so many others came after it."""
    seen = RecentIds(2)
    assert [seen.add(one) for one in ("a", "b", "a", "c", "b", "a")] == [True, True, False, True, False, True]
