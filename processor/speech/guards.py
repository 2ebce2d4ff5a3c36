"""Judges the text of a Whisper decoder: silence, credible, or worth a second look.

Whisper was trained on 30 s windows. Fed less, it is cheaper by far and right almost always, but now and then it loops,
stops early or invents words. The decoded text itself shows that.
"""

import zlib
from dataclasses import dataclass

_SILENCE_PROBABILITY = 0.6
"""Whisper's own threshold; measured: noise and silence 0.73 to 0.98, speech under 2 s at most 0.51."""

_CERTAIN_SILENCE_PROBABILITY = 0.8
"""Above this no words count, however sure. Measured: digital silence 0.90 and above, speech at most 0.58."""

_SILENCE_MEAN_LOGPROB = -0.9
"""No-speech counts only with words this unsure; measured on noise and silence: -0.99 and below."""

_LEAST_MEAN_LOGPROB = -1.0
"""Whisper's own threshold; without it, early stops slip through."""

_SHORT_CLIP_S = 2.5
"""Below this, pre-roll and post-roll included, a clip holds a handful of words and Whisper has little to go by."""

_LEAST_MEAN_LOGPROB_SHORT = -0.6
"""For short clips. Measured below 2 s: a second look at one clip in seven, and errors from 12.8 % to 11.3 %."""

_MOST_COMPRESSION = 2.2
"""Plain English of up to 20 s compresses at most 1.6 times; loops soon pass 2.2."""

_MOST_TOKENS, _MOST_TOKENS_PER_S = 8, 12.0
"""Digits read as fast as people can take two tokens each, 11 a second; read prose at 1.8 times its pace takes 5.3. The
constant leaves room for a very short clip."""

_SPARE_TOKENS, _LEAST_TOKENS_PER_VOICED_S = 3, 1.2
"""Slow reading has three tokens a second; the detector takes noise for voice, hence the slack."""

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
        not any(character.isalnum() for character in decoded.text)
        or decoded.silence_probability > _CERTAIN_SILENCE_PROBABILITY
        or (decoded.silence_probability > _SILENCE_PROBABILITY and decoded.mean_logprob < _SILENCE_MEAN_LOGPROB)
    )


def is_doubtful(decoded: Decoded, clip_s: float, voiced_s: float | None) -> bool:
    """Return whether a decoding needs a second look.

    Args:
        decoded: The decoder's result.
        clip_s: The clip's length.
        voiced_s: How much of it a detector took for speech; None if unknown.
    """
    return (
        decoded.mean_logprob < (_LEAST_MEAN_LOGPROB if clip_s >= _SHORT_CLIP_S else _LEAST_MEAN_LOGPROB_SHORT)
        or decoded.tokens > most_tokens(clip_s)
        or (voiced_s is not None and decoded.tokens + _SPARE_TOKENS < voiced_s * _LEAST_TOKENS_PER_VOICED_S)
        or is_looping(decoded.text)
    )


def is_looping(text: str) -> bool:
    """Return whether a text repeats itself over and over."""
    encoded = text.encode()
    return len(encoded) > _MOST_COMPRESSION * len(zlib.compress(encoded)) or _repeats_phrase(text.lower().split())


def most_tokens(clip_s: float) -> int:
    """Return how many tokens a clip can hold at the very most."""
    return int(_MOST_TOKENS + _MOST_TOKENS_PER_S * clip_s)


def better(first: Decoded, second: Decoded) -> Decoded:
    """Return the more credible of two decodings of one clip: one that does not loop, then the surer one."""
    if is_looping(first.text) != is_looping(second.text):
        return second if is_looping(first.text) else first
    return max(second, first, key=lambda decoded: decoded.mean_logprob)


def _repeats_phrase(words: list[str]) -> bool:
    """Return whether any phrase of two words or more occurs three times in a row."""
    for length in range(2, len(words) // _LOOP_REPEATS + 1):
        same = 0
        for index in range(length, len(words)):
            same = same + 1 if words[index] == words[index - length] else 0
            if same >= length * (_LOOP_REPEATS - 1):
                return True
    return False
