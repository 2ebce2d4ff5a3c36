"""A recogniser for tests and load: instant, deterministic, and sensitive to every sample."""

from collections.abc import Sequence
from hashlib import blake2b

from processor.recognisers.base import Clip, RecognisedWord, Recognition

_WORD_MS = 300  # a word of read English takes about this long
# Thirty-two, so that a byte of the hash picks each equally often.
_WORDS = (
    *("able", "acid", "also", "area", "army", "away", "baby", "back", "ball", "band", "bank", "base", "bath"),
    *("bear", "beat", "been", "beer", "bell", "belt", "best", "bill", "bird", "blow", "blue", "boat", "body"),
    *("bomb", "bond", "bone", "book", "boom", "born"),
)


class MockRecogniser:
    """Draws one word per 300 ms of audio from a hash of all samples: lost, doubled or shifted audio shows."""

    name = "mock"
    max_batch = 1_000  # a clip costs microseconds: any batch that one tick gathers is welcome
    max_parallel = 1
    languages: frozenset[str] = frozenset()
    model = "mock"

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Return one recognition per clip, in order."""
        recognitions: list[Recognition] = []
        for clip in clips:
            count = -(-len(clip.pcm) // (2 * clip.sample_rate_hz * _WORD_MS // 1000))
            digest = blake2b(clip.pcm, digest_size=32).digest()
            words = [_WORDS[digest[index % len(digest)] % len(_WORDS)] for index in range(count)]
            text = " ".join(words).capitalize() + "." if words else ""
            clip_s = len(clip.pcm) / 2 / clip.sample_rate_hz
            timed = tuple(
                RecognisedWord(word, at * _WORD_MS / 1000, min((at + 1) * _WORD_MS / 1000, clip_s), 1.0)
                for at, word in enumerate(text.split())
            )
            confidence, final = (1.0 if clip.pcm else 0.0), (() if clip.partial else timed)
            recognitions.append(
                Recognition(text=text, confidence=confidence, words=final, language=clip.language, model=self.name)
            )
        return recognitions

    def close(self) -> None:
        """Free nothing."""
