"""Words and their times, repeated phrases and lost ends."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks import clips
from benchmarks.wer import normalised
from processor.recognisers import Clip, RecognisedWord
from processor.recognisers.whisper import WhisperRecogniser
from processor.recognisers.whisper.decoding import Decoder, Text
from processor.speech.features import RECOGNISER_RATE_HZ, to_recogniser_rate
from processor.speech.voicing import voicing

SENTENCES = clips.sentences()
PHRASES = ["john dashwood had", "power to do for them", "he was not", "had he married", "he might even have"]
CUTS = [(1, 1.025), (3, 1.855), (4, 2.24), (5, 2.75), (9, 4.335), (15, 5.77), (18, 6.44)]
"""In the first sentence: which word behind "John", and where it begins: the quietest 40 ms between it and the one
before, as clips.py has them."""


@pytest.fixture(scope="module")
def whisper() -> Iterator[WhisperRecogniser]:
    """Load the bundled model once."""
    loaded = WhisperRecogniser()
    yield loaded
    loaded.close()


def clip(pcm: bytes) -> Clip:
    """Return a clip at 16 kHz."""
    return Clip(pcm=pcm, sample_rate_hz=RECOGNISER_RATE_HZ)


def silence(seconds: float) -> bytes:
    """Return digital silence."""
    return bytes(2 * int(seconds * RECOGNISER_RATE_HZ))


def phrase(words: str) -> bytes:
    """Return a phrase, cut where its voice begins and ends."""
    [pcm] = [spoken.pcm for spoken in clips.short() if spoken.words == words] or [
        SENTENCES[4].pcm[: 2 * 17_600]  # "he might even have"
    ]
    voice = voicing(to_recogniser_rate(pcm, RECOGNISER_RATE_HZ))
    first, last = (2 * int(time_s * RECOGNISER_RATE_HZ) for time_s in (voice.starts_s[0], voice.ends_s[-1]))
    return pcm[first:last]


def test_words_make_the_text_and_are_in_order(whisper: WhisperRecogniser) -> None:
    """WORD-3: joined by spaces a final's words are its text; their times rise, within the clip's voiced part."""
    for spoken, found in zip(SENTENCES, whisper.recognise([clip(each.pcm) for each in SENTENCES]), strict=True):
        voice = voicing(to_recogniser_rate(spoken.pcm, RECOGNISER_RATE_HZ))
        assert " ".join(word.text for word in found.words) == found.text
        assert found.words[0].start_s == pytest.approx(voice.starts_s[0], abs=0.001)
        assert found.words[-1].end_s <= voice.ends_s[-1] + 0.001
        assert all(0 < word.confidence <= 1 and word.start_s <= word.end_s for word in found.words)
        assert all(one.end_s <= next_one.start_s for one, next_one in itertools.pairwise(found.words))


def test_words_in_running_speech_begin_where_they_are_said(whisper: WhisperRecogniser) -> None:
    """WORD-3: between words of a sentence read without pauses, starts are right to 90 ms in the median."""
    [found] = whisper.recognise([clip(SENTENCES[0].pcm)])
    john = [word.text for word in found.words].index("John")
    wrong_s = [abs(found.words[john + behind].start_s - at_s) for behind, at_s in CUTS]
    assert np.median(wrong_s) <= 0.09
    assert max(wrong_s) <= 0.2


@pytest.mark.parametrize("pause_s", [0.25, 0.6])
def test_words_at_pauses_begin_and_end_where_they_are_said(whisper: WhisperRecogniser, pause_s: float) -> None:
    """WORD-3: next to pauses, starts and ends are right to 90 ms in the median, and nine of ten to 200 ms."""
    pcm, wrong_s = silence(0.3), []
    spans: list[tuple[float, float]] = []
    for words in PHRASES:
        start_s = len(pcm) / 2 / RECOGNISER_RATE_HZ
        pcm += phrase(words)
        spans.append((start_s, len(pcm) / 2 / RECOGNISER_RATE_HZ))
        pcm += silence(pause_s)
    [found] = whisper.recognise([clip(pcm)])
    for (start_s, end_s), words in zip(spans, PHRASES, strict=True):
        wrong_s.append(abs(nearest(found.words, words.split()[0], start_s).start_s - start_s))
        wrong_s.append(abs(nearest(found.words, words.split()[-1], end_s).end_s - end_s))
    assert np.median(wrong_s) <= 0.09
    assert np.percentile(wrong_s, 90) <= 0.2


def nearest(words: tuple[RecognisedWord, ...], text: str, time_s: float) -> RecognisedWord:
    """Return the word of that text nearest to a time; any word if the text was not recognised."""
    same = [word for word in words if normalised(word.text) == [text]]
    return min(same or words, key=lambda word: min(abs(word.start_s - time_s), abs(word.end_s - time_s)))


def test_a_batch_gives_the_texts_of_single_clips(whisper: WhisperRecogniser) -> None:
    """WORD-1: decoded with seven others, a clip has the text and words that it has alone."""
    pcm = [*(spoken.pcm for spoken in SENTENCES), *(spoken.pcm for spoken in clips.short()[:3])]
    together = whisper.recognise([clip(each) for each in pcm])
    alone = [whisper.recognise([clip(each)])[0] for each in pcm]
    assert [(each.text, each.decodes) for each in together] == [(each.text, each.decodes) for each in alone]
    assert [[word.start_s for word in each.words] for each in together] == [
        [word.start_s for word in each.words] for each in alone
    ]


@pytest.mark.parametrize("times", [3, 5])
@pytest.mark.parametrize("index", [1, 4])
def test_a_repeated_sentence_comes_as_often_spelt_alike(whisper: WhisperRecogniser, index: int, times: int) -> None:
    """WORD-2: a sentence said three or five times comes as often, spelt alike, for each time has its place."""
    said = SENTENCES[index]
    [found] = whisper.recognise([clip((said.pcm + silence(0.15)) * times)])
    words = normalised(found.text)
    each = [words[first : first + len(words) // times] for first in range(0, len(words), len(words) // times)]
    assert each == [each[0]] * times
    assert len(each[0]) >= len(said.words.split()) - 1


def test_a_lost_end_is_decoded_again(whisper: WhisperRecogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    """WORD-1: if the decoder stops early, the voice behind its last word is found, and the end decoded."""
    _stop_early(monkeypatch, looks=1)
    [found] = whisper.recognise([clip(SENTENCES[0].pcm)])
    assert "tail" in found.marks
    assert normalised(found.text)[-4:] == ["do", "for", "them"] or found.text.endswith("to do for them.")


def test_an_end_that_no_second_look_finds_is_decoded_by_itself(
    whisper: WhisperRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WORD-1: if every decoding of the whole clip stops early, its end is decoded alone and put behind."""
    _stop_early(monkeypatch, looks=3)
    [found] = whisper.recognise([clip(SENTENCES[0].pcm)])
    assert found.text.endswith("for them.")
    assert len(normalised(found.text)) >= 20
    assert found.words[-1].end_s > 6.5


def _stop_early(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """Let the decoder lose the last half of its first few texts."""
    real = Decoder.decode
    seen = itertools.count()

    def lossy(self: Decoder, *args: object, **kwargs: object) -> list[Text]:
        texts = real(self, *args, **kwargs)  # type: ignore[arg-type]
        if next(seen) >= looks:
            return texts
        cut = [text.tokens[: len(text.tokens) // 2] for text in texts]
        return [
            Text(tokens, type(text.decoded)(self._vocabulary.text(tokens), len(tokens), -0.1, 0.01))
            for tokens, text in zip(cut, texts, strict=True)
        ]

    monkeypatch.setattr(Decoder, "decode", lossy)


def test_a_loop_of_the_decoder_is_cut_off(whisper: WhisperRecogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    """WORD-2: a text whose repeats have no place in the audio is decoded again, and lastly cut where they begin."""
    real = Decoder.decode

    def looping(self: Decoder, *args: object, **kwargs: object) -> list[Text]:
        texts = real(self, *args, **kwargs)  # type: ignore[arg-type]
        looped = [text.tokens * 5 for text in texts]
        return [
            Text(tokens, type(text.decoded)(self._vocabulary.text(tokens), len(tokens), -0.1, 0.01))
            for tokens, text in zip(looped, texts, strict=True)
        ]

    monkeypatch.setattr(Decoder, "decode", looping)
    [found] = whisper.recognise([clip(SENTENCES[4].pcm)])
    assert "loop" in found.marks
    assert found.decodes >= 3
    assert len(normalised(found.text)) <= len(SENTENCES[4].words.split()) + 2
