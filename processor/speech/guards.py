"""Judges the text of a Whisper decoder: silence, credible, or worth a second look.

Now and then the decoder loops, stops early or invents words. The decoded text and the times of its words show that.
"""

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from processor.speech.voicing import Voicing

_SILENCE_PROBABILITY = 0.6
"""Whisper's own threshold; measured: noise and silence 0.73 to 0.98, speech under 2 s at most 0.51."""

_CERTAIN_SILENCE_PROBABILITY = 0.8
"""Above this no words count, however sure. Measured: digital silence 0.90 and above, speech at most 0.58."""

_SILENCE_MEAN_LOGPROB = -0.9
"""No-speech counts only with words this unsure; measured on noise and silence: -0.99 and below."""

_SUSPECT_PROBABILITY, _SUSPECT_MEAN_LOGPROB = 0.4, -0.8
"""Either of them, and the words' places are looked at."""

_BEHIND_S, _MOST_BEHIND = 0.3, 0.5
"""A text is invented if over half of its tokens lie behind the clip by this. Measured: noise 0.8-0.9, speech 0.3."""

UNSURE_MEAN_LOGPROB = -0.25
"""A greedy text less sure than this is decoded again by beams. Measured over 698 words: 51 errors with -0.4, 47 with
-0.25 for a fifth more CPU time, no fewer with -0.2."""

_MOST_COMPRESSION = 2.2
"""Plain English of up to 20 s compresses at most 1.6 times; loops soon pass 2.2."""

_MOST_TOKENS, _MOST_TOKENS_PER_S = 8, 12.0
"""Digits read as fast as people can take two tokens each, 11 a second; read prose at 1.8 times its pace takes 5.3. The
constant leaves room for a very short clip."""

_SQUEEZED_END = 0.7  # share of such tokens in the end of a text that is cut off

MOST_VOICED_S = 1.1
"""Voiced time from the start of one token to that of the next. Measured at 0.75 to 1.4 times a reader's pace: at most
0.88 in whole texts; with two seconds of words taken out of them, 1.2 and more in 19 of 20."""

_SQUEEZED_S, _MOST_SQUEEZED, _LEAST_SQUEEZED_TOKENS = 0.041, 0.45, 8
"""Tokens that have two states at most. Measured: 0.54 to 0.92 of them where the decoder looped, at most 0.33 where a
phrase was said three to five times, since each time has its place in the audio."""

MOST_UNEXPLAINED = 0.5
"""Of a clip's voiced time without words, past which an unsure text is invented, such as two words of eight seconds of
music."""

_LOOP_REPEATS = 3
"""A phrase three times in a row; twice is common in speech."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoding of a clip.

    Attributes:
        text: The words.
        tokens: How many tokens they took.
        mean_logprob: Mean natural log probability of a token.
        silence_probability: The model's probability that the clip holds no speech.
    """

    text: str
    tokens: int
    mean_logprob: float
    silence_probability: float


def is_silence(decoded: Decoded) -> bool:
    """Return whether the clip holds no words."""
    return (
        not has_words(decoded)
        or is_certain_silence(decoded)
        or (decoded.silence_probability > _SILENCE_PROBABILITY and decoded.mean_logprob < _SILENCE_MEAN_LOGPROB)
    )


def is_certain_silence(decoded: Decoded) -> bool:
    """Return whether the model detects no speech, whatever it wrote."""
    return decoded.silence_probability > _CERTAIN_SILENCE_PROBABILITY


def is_suspect(decoded: Decoded) -> bool:
    """Return whether the text may be invented, so that its words' places in the whole memory should be looked at."""
    return decoded.silence_probability >= _SUSPECT_PROBABILITY or decoded.mean_logprob <= _SUSPECT_MEAN_LOGPROB


def is_invented(token_starts_s: Sequence[float], clip_s: float) -> bool:
    """Return whether most tokens are placed in the silence behind the clip."""
    behind = sum(start_s > clip_s + _BEHIND_S for start_s in token_starts_s)
    return behind > _MOST_BEHIND * len(token_starts_s)


def is_unsure(decoded: Decoded) -> bool:
    """Return whether a greedy text should be decoded again by beams."""
    return decoded.mean_logprob < UNSURE_MEAN_LOGPROB


def is_squeezed(edges_s: npt.NDArray[np.float64]) -> bool:
    """Return whether the tokens between these edges have too little time to have been said: the decoder looped."""
    lengths_s = np.diff(edges_s)
    return len(lengths_s) >= _LEAST_SQUEEZED_TOKENS and float(np.mean(lengths_s <= _SQUEEZED_S)) > _MOST_SQUEEZED


def squeezed_from(edges_s: npt.NDArray[np.float64]) -> int:
    """Return the token from which on most have too little time to have been said; their number if none."""
    squeezed = np.diff(edges_s) <= _SQUEEZED_S
    shares = np.cumsum(squeezed[::-1])[::-1] / np.arange(len(squeezed), 0, -1)
    found = np.flatnonzero(squeezed & (shares >= _SQUEEZED_END))
    return int(found[0]) if len(found) else len(squeezed)


def unwritten(edges_s: npt.NDArray[np.float64], voice: Voicing, clip_s: float) -> list[tuple[float, float]]:
    """Return the times, in order, in which a clip is voiced for longer than a token can take."""
    starts_s = [*edges_s[:-1].tolist(), clip_s]
    return [
        (first_s, next_s)
        for first_s, next_s in itertools.pairwise([0.0, *starts_s])
        if voice.between(first_s, next_s) > MOST_VOICED_S
    ]


def is_looping(text: str) -> bool:
    """Return whether a text repeats itself over and over."""
    encoded = text.encode()
    return len(encoded) > _MOST_COMPRESSION * len(zlib.compress(encoded)) or _repeats_phrase(text.lower().split())


def most_tokens(clip_s: float) -> int:
    """Return how many tokens a clip can hold at the very most."""
    return int(_MOST_TOKENS + _MOST_TOKENS_PER_S * clip_s)


def better(first: Decoded, second: Decoded) -> Decoded:
    """Return the more credible of two decodings of one clip: one with words that does not loop, then the surer one."""
    return max(first, second, key=lambda one: (has_words(one), not is_looping(one.text), one.mean_logprob))


def has_words(decoded: Decoded) -> bool:
    """Return whether a text has a letter or a digit."""
    return any(character.isalnum() for character in decoded.text)


def _repeats_phrase(words: list[str]) -> bool:
    """Return whether any phrase of two words or more occurs three times in a row."""
    for length in range(2, len(words) // _LOOP_REPEATS + 1):
        same = 0
        for index in range(length, len(words)):
            same = same + 1 if words[index] == words[index - length] else 0
            if same >= length * (_LOOP_REPEATS - 1):
                return True
    return False
