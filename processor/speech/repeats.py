"""Finds repeats of a phrase that the decoder wrote oftener than it was said, by the time that each has."""

from collections.abc import Sequence

import numpy as np

_LEAST_REPEATS = 4
"""Phrases said three times came three times in all of 14 measured cases."""

_SHORT = 0.35
"""A repeat with less than this part of the others' time was not said. Measured: excess ones have 0 to 0.3."""


def excess(words: Sequence[str], edges_s: Sequence[float]) -> list[tuple[int, int]]:
    """Return the parts of a text, first word and end, that repeat a phrase without the time to say it.

    Args:
        words: The text's words, without case and punctuation.
        edges_s: Where each word begins, and where the last one ends: one more than the words.
    """
    first, length, repeats = _longest_run(words)
    if repeats < _LEAST_REPEATS:
        return []
    edges = [first + length * index for index in range(repeats + 1)]
    lengths_s = {index: edges_s[edges[index + 1]] - edges_s[edges[index]] for index in range(repeats)}
    total_s = sum(lengths_s.values())
    dropped: list[int] = []
    while len(lengths_s) >= _LEAST_REPEATS:
        typical_s = float(np.median(list(lengths_s.values())))
        shortest = min(lengths_s, key=lambda index: lengths_s[index])
        if lengths_s[shortest] >= _SHORT * typical_s or len(lengths_s) <= round(total_s / typical_s):
            break
        dropped.append(shortest)
        del lengths_s[shortest]
    return [(edges[index], edges[index + 1]) for index in sorted(dropped)]


def _longest_run(words: Sequence[str]) -> tuple[int, int, int]:
    """Return first word, words and number of the phrase whose repeats in a row cover most of a text."""
    best = (0, 0, 0)
    for length in range(1, len(words) // _LEAST_REPEATS + 1):
        same = 0
        for index in range(length, len(words)):
            same = same + 1 if words[index] == words[index - length] else 0
            repeats = same // length + 1
            if repeats * length > best[1] * best[2] and repeats > 1:
                best = (index - same - length + 1, length, repeats)
    return best
