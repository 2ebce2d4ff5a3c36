import numpy as np
import pytest

from processor.speech.guards import (
    Decoded,
    better,
    is_invented,
    is_looping,
    is_silence,
    is_squeezed,
    is_unsure,
    squeezed_from,
    unwritten,
)
from processor.speech.voicing import Voicing


def decoded(text: str, tokens: int = 10, mean_logprob: float = -0.2, silence_probability: float = 0.05) -> Decoded:
    """Return a decoding, credible by default."""
    return Decoded(text, tokens, mean_logprob, silence_probability)


@pytest.mark.parametrize(
    "nothing",
    [
        decoded(""),
        decoded(". . ."),
        decoded("Thank you.", mean_logprob=-1.16, silence_probability=0.97),
        decoded("you", mean_logprob=-0.4, silence_probability=0.9),
        decoded("What do you want to do?", mean_logprob=-1.43, silence_probability=0.74),
    ],
)
def test_silence_has_no_words_or_unsure_ones(nothing: Decoded) -> None:
    """Punctuation alone is silence, and so are words where the model excludes speech or is unsure of them."""
    assert is_silence(nothing)


def test_words_are_kept_if_either_mark_of_silence_is_missing() -> None:
    """Sure words are kept where the model doubts that speech is present, and unsure ones where it does not."""
    assert not is_silence(decoded("Yes.", mean_logprob=-0.3, silence_probability=0.75))
    assert not is_silence(decoded("Yes.", mean_logprob=-1.3, silence_probability=0.5))


def test_only_unsure_texts_get_a_second_look() -> None:
    """A low mean log probability raises doubt; a plain sentence does not."""
    assert is_unsure(decoded("Hm, a nursery words.", mean_logprob=-0.7))
    assert not is_unsure(decoded("He was not an ill-disposed young man."))


def test_tokens_without_time_are_a_loop() -> None:
    """Tokens that share a place in the audio were not said; tokens with a place each were, however alike."""
    said = np.arange(0, 4.4, 0.4)
    assert not is_squeezed(said)
    piled = np.concatenate([said[:4], np.full(20, 1.3)])
    assert is_squeezed(piled)
    assert squeezed_from(piled) == 4
    assert not is_squeezed(np.full(5, 1.0))


def test_voice_without_words_is_unwritten() -> None:
    """Over 1.1 s of voice between two tokens, or behind the last, is speech that is missing; a pause is none."""
    talking = Voicing(np.array([0.2, 6.0]), np.array([4.0, 9.0]))
    edges_s = np.array([0.0, 0.4, 0.8, 3.0, 6.5, 7.0, 7.4])
    assert unwritten(edges_s, talking, clip_s=9.0) == [(0.8, 3.0), (3.0, 6.5), (7.0, 9.0)]
    pausing = Voicing(np.array([0.2, 6.0]), np.array([1.2, 7.4]))
    assert unwritten(edges_s, pausing, clip_s=9.0) == []


def test_tokens_behind_the_clip_are_invented() -> None:
    """A text with most of its tokens in the silence behind the clip is invented; one or two there may be noise."""
    assert is_invented([0.2, 2.5, 2.9], clip_s=2.0)
    assert not is_invented([0.2, 1.1, 2.9], clip_s=2.0)


@pytest.mark.parametrize("text", ["very very good", "no, no, no", "he had had enough of it", "a b a b"])
def test_common_repetition_is_no_loop(text: str) -> None:
    """People say a word three times or a phrase twice."""
    assert not is_looping(text)


def test_the_better_of_two_is_the_surer_one_that_does_not_loop() -> None:
    """Between two decodings of a clip, one without a loop wins, then the surer one."""
    sure, unsure = decoded("sure", mean_logprob=-0.1), decoded("unsure", mean_logprob=-0.9)
    loop = decoded("on and on and on and", mean_logprob=-0.01)
    assert better(sure, unsure) == better(unsure, sure) == sure
    assert better(loop, unsure) == better(unsure, loop) == unsure
