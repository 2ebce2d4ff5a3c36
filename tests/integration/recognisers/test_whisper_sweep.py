"""Speech at every pace and of every length comes back whole."""

from collections.abc import Iterator

import pytest
from rapidfuzz.distance import Levenshtein

from benchmarks import clips
from benchmarks.wer import normalised
from processor.recognisers import Clip, Recogniser, load
from processor.speech.features import RECOGNISER_RATE_HZ
from tests.support.tempo import at_tempo

SENTENCES = clips.sentences()
# Tempo to words wrong of 70; whole-file decoding by the same model has 4, 0, 0, 2 and 3 wrong.
MOST_WRONG = {0.7: 6, 1.0: 2, 1.3: 3, 1.5: 4, 1.8: 10}


@pytest.fixture(scope="module")
def whisper() -> Iterator[Recogniser]:
    """Load the bundled model once."""
    loaded = load("whisper")
    yield loaded
    loaded.close()


def clip(pcm: bytes) -> Clip:
    """Return a clip at 16 kHz."""
    return Clip(pcm=pcm, sample_rate_hz=RECOGNISER_RATE_HZ)


def wrong(spoken: str, recognised: str) -> int:
    """Return how many words are wrong."""
    return Levenshtein.distance(normalised(spoken), normalised(recognised))


@pytest.mark.parametrize("tempo", MOST_WRONG)
def test_a_sentence_at_any_pace_is_whole(whisper: Recogniser, tempo: float) -> None:
    """WORD-1: read 0.7 to 1.8 times as fast, sentences keep their words, and their last ones too."""
    found = whisper.recognise([clip(at_tempo(spoken.pcm, tempo)) for spoken in SENTENCES])
    texts = [each.text for each in found]
    assert sum(wrong(spoken.words, text) for spoken, text in zip(SENTENCES, texts, strict=True)) <= MOST_WRONG[tempo]
    lengths = [len(normalised(text)) - len(spoken.words.split()) for spoken, text in zip(SENTENCES, texts, strict=True)]
    assert all(-3 <= difference <= 3 for difference in lengths)


@pytest.mark.parametrize("seconds", [1, 2, 3, 5, 8, 12, 16, 20])
def test_an_utterance_of_any_length_is_whole(whisper: Recogniser, seconds: int) -> None:
    """WORD-1: the first 1 to 20 s of fast reading give as many words as were read, from the first to the last."""
    reading = at_tempo(clips.conversation(pause_s=0.15).pcm, 1.3)
    words = clips.conversation(pause_s=0.15).words.split()
    cut = reading[: 2 * RECOGNISER_RATE_HZ * seconds]
    found = normalised(whisper.recognise([clip(cut)])[0].text)
    expected = len(words) * len(cut) / len(reading)
    # Words are not spread evenly, and the cut falls anywhere.
    assert abs(len(found) - expected) <= 4
    assert wrong(" ".join(words[: len(found)]), " ".join(found)) <= 3 + len(found) // 10


def test_an_echo_of_the_padding_is_not_heard(whisper: Recogniser) -> None:
    """WORD-1: what stands behind a clip is silence to Whisper, so a short clip is not said twice."""
    found = whisper.recognise([clip(spoken.pcm) for spoken in clips.short()])
    lengths = [
        (len(normalised(each.text)), len(spoken.words.split()))
        for each, spoken in zip(found, clips.short(), strict=True)
    ]
    assert [pair for pair in lengths if pair[0] > pair[1] + 1] == []
