"""Words with their times: the alignment's edges, moved to where the voice begins and ends.

At a pause the decoder's attention leaves a word early or late, by up to 0.4 s. So words are first given to the voiced
stretches of the clip, as a whole: in order, near their edges, and with no stretch left without a word if possible.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from processor.recognisers.base import RecognisedWord
from processor.recognisers.whisper.decoding import Alignment
from processor.recognisers.whisper.vocabulary import Word
from processor.speech.voicing import Voicing

_LATE_S = 0.1
"""How much later than the voice the decoder's attention is within running speech. Measured at eight cuts between the
words of a sentence: -0.05 to 0.17 s, 0.1 in the median."""

_PAUSE_S = 0.2
"""No word has a pause as long as this within it; the closure of a stop consonant takes up to 0.12 s."""

_AHEAD_COST = 0.3
"""Per second that an edge lies ahead of its stretch, where one behind it costs 1: attention often leaves for the next
word at the pause before it."""

_EMPTY_COST, _EMPTY_COST_PER_S = 0.2, 0.5
"""Of a stretch without a word, which may be a breath or a click."""

Times = npt.NDArray[np.float64]


def with_times(
    words: Sequence[Word], alignment: Alignment, voice: Voicing, clip_s: float
) -> tuple[RecognisedWord, ...]:
    """Return words with their times in the clip and their confidence, the mean probability of their tokens."""
    if not words:
        return ()
    edges_s = np.array([float(alignment.edges_s[word.first]) for word in words])
    begins_s, stops_s = voice.joined(_PAUSE_S)
    starts_s, latest_s = (
        _placed(edges_s, begins_s, stops_s) if len(begins_s) else (edges_s, np.full(len(words), clip_s))
    )
    found: list[RecognisedWord] = []
    for index, word in enumerate(words):
        next_s = float(starts_s[index + 1]) if index + 1 < len(words) else clip_s
        start_s = min(float(starts_s[index]), clip_s)
        end_s = max(start_s, min(float(latest_s[index]), next_s, clip_s))
        probabilities = alignment.probabilities[word.first : word.end]
        confidence = min(1.0, float(probabilities.mean())) if len(probabilities) else 0.0
        found.append(RecognisedWord(word.text, round(start_s, 3), round(end_s, 3), round(confidence, 4)))
    return tuple(found)


def _placed(edges_s: Times, begins_s: Times, stops_s: Times) -> tuple[Times, Times]:
    """Return the words' starts, and the ends of their stretches."""
    stretches = _stretches(edges_s, begins_s, stops_s)
    starts_s = np.clip(edges_s - _LATE_S, begins_s[stretches], stops_s[stretches])
    is_first = np.diff(stretches, prepend=-1) > 0
    starts_s = np.maximum.accumulate(np.where(is_first, begins_s[stretches], starts_s))
    return starts_s, stops_s[stretches]


def _stretches(edges_s: Times, begins_s: Times, stops_s: Times) -> npt.NDArray[np.int64]:
    """Return the stretch of each word: the order-preserving choice of the lowest cost."""
    empty = np.concatenate([[0.0], np.cumsum(_EMPTY_COST + _EMPTY_COST_PER_S * (stops_s - begins_s))])
    ahead = np.maximum(begins_s[None, :] - edges_s[:, None], 0.0) * _AHEAD_COST
    cost = ahead + np.maximum(edges_s[:, None] - stops_s[None, :], 0.0)
    count = len(begins_s)
    total = empty[:-1] + cost[0]
    choices = [np.zeros(count, np.int64)]
    for row in cost[1:]:
        # Coming from an earlier stretch leaves those between without a word.
        left = total - empty[1:]
        cheapest = np.minimum.accumulate(left)
        came_from = np.maximum.accumulate(np.where(left <= cheapest, np.arange(count), 0))
        moved = np.concatenate([[np.inf], cheapest[:-1]]) + empty[:-1]
        stays = total <= moved
        choices.append(np.where(stays, np.arange(count), np.concatenate([[0], came_from[:-1]])))
        total = np.where(stays, total, moved) + row
    chosen = [int(np.argmin(total + empty[-1] - empty[1:]))]
    for choice in reversed(choices[1:]):
        chosen.append(int(choice[chosen[-1]]))
    return np.array(chosen[::-1], np.int64)
