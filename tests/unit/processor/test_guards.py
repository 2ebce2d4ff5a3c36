import pytest

from processor.speech.guards import Decoded, better, is_doubtful, is_looping, is_silence


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
    """Punctuation alone is silence, and so are words where the model hears no speech or is unsure of them."""
    assert is_silence(nothing)


def test_words_are_kept_if_either_mark_of_silence_is_missing() -> None:
    """Sure words are kept where the model doubts that speech is present, and unsure ones where it does not."""
    assert not is_silence(decoded("Yes.", mean_logprob=-0.3, silence_probability=0.75))
    assert not is_silence(decoded("Yes.", mean_logprob=-1.3, silence_probability=0.5))


@pytest.mark.parametrize(
    ("what", "voiced_s"),
    [
        (decoded("unsure", mean_logprob=-1.1), None),
        (decoded("far too much", tokens=69), None),
        (decoded("far too little", tokens=2), 5.0),
        (decoded("no matter " * 12, tokens=24), None),
        (decoded("No matter. No matter. No matter."), None),
    ],
)
def test_each_mark_of_a_bad_decoding_gets_a_second_look(what: Decoded, voiced_s: float | None) -> None:
    """Low probability, too many or too few tokens, and repetition each raise doubt."""
    assert is_doubtful(what, clip_s=5.0, voiced_s=voiced_s)


def test_a_credible_decoding_is_accepted() -> None:
    """A plain sentence at the pace of speech needs no second look."""
    assert not is_doubtful(decoded("He was not an ill-disposed young man.", tokens=11), clip_s=3.0, voiced_s=2.8)


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
