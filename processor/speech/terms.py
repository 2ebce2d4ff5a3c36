"""Judges whether the key terms in a text were said, or only wished for."""

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEAST_MEAN_LOGPROB = -2.0
"""Mean log probability of a term's tokens without the terms as a prompt."""

_SMALLEST = 1e-9  # so that the logarithm exists

Probabilities = npt.NDArray[np.float64]


def are_supported(words: Sequence[tuple[str, Probabilities]], terms: Sequence[str]) -> bool:
    """Return whether each term that a text names is probable by the audio alone.

    Args:
        words: The text's words, each with its tokens' probabilities without the terms as a prompt.
        terms: The key terms.
    """
    texts = [plain(text) for text, _ in words]
    for term in terms:
        named = [part for part in map(plain, term.split()) if part]
        for first in range(len(texts) - len(named) + 1) if named else ():
            if texts[first : first + len(named)] == named:
                tokens = np.concatenate([found for _, found in words[first : first + len(named)]])
                if mean_logprob(tokens) < LEAST_MEAN_LOGPROB:
                    return False
    return True


def mean_logprob(probabilities: Probabilities) -> float:
    """Return the mean natural logarithm; minus infinity of none."""
    return float(np.log(np.maximum(probabilities, _SMALLEST)).mean()) if len(probabilities) else -math.inf


def plain(word: str) -> str:
    """Return a word without case and punctuation."""
    return re.sub(r"[^\w]", "", word).lower()
