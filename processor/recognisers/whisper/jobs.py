"""A clip on its way through the passes, and the batches in which clips travel."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from processor.recognisers.base import Clip
from processor.recognisers.whisper.decoding import Alignment, Text
from processor.recognisers.whisper.memory import STATES_PER_S, Memory
from processor.speech.features import RECOGNISER_RATE_HZ, Floats
from processor.speech.voicing import Voicing

Key = TypeVar("Key", int, tuple[int, int], tuple[int, str])


@dataclass(slots=True)
class Job:
    """A clip and all that is known of it so far.

    Attributes:
        clip: The clip.
        samples: Its samples at 16 kHz.
        voice: Where it is voiced.
        language: The code of its language; empty until detected.
        memory: The encoder's states.
        before: Tokens that the decoder takes as said before it.
        text: The best text so far.
        alignment: When that text's tokens are said; None until asked.
        decodes: How many times it was decoded.
        marks: The guards that acted.
    """

    clip: Clip
    samples: Floats
    voice: Voicing
    language: str
    memory: Memory
    before: tuple[int, ...] = ()
    text: Text | None = None
    alignment: Alignment | None = None
    decodes: int = 0
    marks: list[str] = field(default_factory=list)

    @property
    def clip_s(self) -> float:
        """The clip's length."""
        return len(self.samples) / RECOGNISER_RATE_HZ

    @property
    def states(self) -> int:
        """How many states its memory has."""
        return int(self.memory.shape[1])

    @property
    def voiced_s(self) -> float | None:
        """How much of the clip a detector took for speech; None if unknown."""
        return None if self.clip.voiced_ms is None else self.clip.voiced_ms / 1000


def batches(jobs: Iterable[Job], key: Callable[[Job], Key], most_s: float) -> Iterator[list[Job]]:
    """Yield jobs of one key together, of like length, up to so many seconds of memory."""
    batch: list[Job] = []
    for job in sorted(jobs, key=lambda job: (key(job), job.clip_s)):
        if batch and (key(batch[0]) != key(job) or job.states * (len(batch) + 1) > most_s * STATES_PER_S):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch
