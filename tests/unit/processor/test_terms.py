import numpy as np
import pytest

from processor.speech.terms import are_supported, mean_logprob

SURE, UNSURE = np.array([0.9, 0.7]), np.array([0.3, 0.001])


def test_a_term_is_supported_if_the_audio_alone_makes_it_probable() -> None:
    """WORD-6: a term's tokens must be probable without the terms as a prompt; other words may be as they are."""
    assert are_supported([("Mr.", UNSURE), ("Dashwood,", SURE)], ["Dashwood"])
    assert not are_supported([("Mr.", SURE), ("Dashwood,", UNSURE)], ["Dashwood"])


def test_a_term_of_several_words_is_judged_as_a_whole() -> None:
    """WORD-6: the words of a term count together, whatever their case and punctuation."""
    words = [("combe", SURE), ("Magna.", UNSURE), ("Magna", UNSURE)]
    assert not are_supported(words, ["Combe Magna"])
    assert are_supported(words, ["Magna Combe", "", "..."])


def test_no_tokens_have_no_probability() -> None:
    """The mean logarithm of nothing is minus infinity, and that of zero is finite."""
    assert mean_logprob(np.zeros(0)) == -np.inf
    assert mean_logprob(np.array([0.0])) == pytest.approx(np.log(1e-9))
