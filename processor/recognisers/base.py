"""The contract of every recogniser: its input, its output and its promises."""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """One utterance to be recognised.

    Attributes:
        pcm: 16-bit little-endian mono samples.
        sample_rate_hz: Their rate.
        language: The language spoken, as a code such as "en"; "auto" or empty: the recogniser detects it.
        partial: The utterance is still open: speed counts for more than the last per cent of accuracy.
        voiced_ms: How much of it a voice detector took for speech; None if unknown.
        model: One of the recogniser's models; empty: its default.
        terms: Key terms that the speech may name; they are preferred, never invented.
        prompt: Text that the recogniser takes as said before.
    """

    pcm: bytes
    sample_rate_hz: int
    language: str = "en"
    partial: bool = False
    voiced_ms: int | None = None
    model: str = ""
    terms: tuple[str, ...] = ()
    prompt: str = ""


class RecognisedWord(msgspec.Struct, frozen=True, array_like=True):
    """A word of a clip's text.

    Attributes:
        text: As it stands in the text, its punctuation included.
        start_s: Its start in seconds from the clip's first sample.
        end_s: Its end, no earlier than its start and no later than the clip's end.
        confidence: 0 to 1.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


class Recognition(msgspec.Struct, frozen=True, kw_only=True):
    """The recognised text of a clip.

    Attributes:
        text: The words; empty without speech.
        confidence: 0 to 1; how sure the recogniser is, or 0 for empty text.
        decodes: How many times the clip was decoded: more than once if a guard doubted the first text.
        words: The text's words in order; empty if the recogniser gives no times, or for a partial.
        language: The language of the text; empty if unknown.
        model: The model that made the text; empty if unknown.
        marks: The guards that acted on this clip, such as "loop", "unsure" or "tail"; for benchmarks only.
    """

    text: str
    confidence: float
    decodes: int = 1
    words: tuple[RecognisedWord, ...] = ()
    language: str = ""
    model: str = ""
    marks: tuple[str, ...] = ()


class Recogniser(Protocol):
    """Turns clips into text; safe to call from several threads at once.

    A call blocks, so it belongs in a thread off the event loop. It either recognises every clip or raises; it keeps
    nothing between calls, so calling again after a failure is harmless.

    Attributes:
        name: The name it is loaded by.
        max_batch: How many clips one call takes.
        max_parallel: How many calls at once are of any use.
        languages: Codes of the languages it has; empty if unknown. A clip in another one is refused. `load` adds an
            empty set to a plug-in without it.
        model: The name of its model; empty if unknown. `load` adds it likewise.
    """

    name: str
    max_batch: int
    max_parallel: int
    languages: frozenset[str]
    model: str

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Return one recognition per clip, in order.

        Raises:
            RecogniserError: Nothing was recognised; its `retryable` says whether trying again may help.
        """
        ...

    def close(self) -> None:
        """Free models and connections; no call may follow."""
        ...


class RecogniserError(Exception):
    """A recogniser could not do its work.

    Args:
        message: What went wrong, without any transcript text.
        retryable: Whether the same call may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable
