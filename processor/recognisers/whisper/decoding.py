"""Calls of CTranslate2's decoder: texts for memories, and the times of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from processor.recognisers.whisper.memory import STATES_PER_S, Memory
from processor.recognisers.whisper.vocabulary import Vocabulary
from processor.speech.guards import Decoded

_LONGEST = 448  # tokens of prompt and text that Whisper has places for


@dataclass(frozen=True, slots=True)
class Text:
    """A decoded text.

    Attributes:
        tokens: Its tokens, without markup.
        decoded: What the guards judge.
    """

    tokens: tuple[int, ...]
    decoded: Decoded


@dataclass(frozen=True, slots=True)
class Alignment:
    """When each token of a text is said.

    Attributes:
        edges_s: Where each token begins, and where the last one ends: one more than the tokens.
        probabilities: How probable each token is.
    """

    edges_s: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]


class Decoder:
    """Decodes and aligns memories of one size together.

    Args:
        model: CTranslate2's Whisper.
        vocabulary: The model's tokens.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary) -> None:  # noqa: ANN401 -- ctranslate2 has no types
        self._model = model
        self._vocabulary = vocabulary

    def decode(
        self,
        memories: Sequence[Memory],
        prompts: list[list[int]],
        *,
        beam: int,
        most_tokens: int,
        banned_repeat: int = 0,
    ) -> list[Text]:
        """Return a text for each memory.

        Args:
            memories: All of one size.
            prompts: All of one length.
            beam: Hypotheses that are kept; 1 is greedy.
            most_tokens: Where a text is cut off.
            banned_repeat: Phrases of so many tokens come once at most; 0 bans none.
        """
        results = self._model.generate(
            _joined(memories),
            prompts,
            beam_size=beam,
            max_length=max_length(len(prompts[0]), most_tokens + 1),
            no_repeat_ngram_size=banned_repeat,
            suppress_tokens=self._vocabulary.suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [self._read(result) for result in results]

    def align(
        self, memories: Sequence[Memory], language: str, texts: Sequence[Sequence[int]], seconds: Sequence[float]
    ) -> list[Alignment]:
        """Return when the tokens of each text are said, looked for in the first `seconds` of each memory."""
        states = [
            max(1, min(int(length_s * STATES_PER_S), memory.shape[1]))
            for length_s, memory in zip(seconds, memories, strict=True)
        ]
        results = self._model.align(
            _joined(memories),
            self._vocabulary.start_sequence(language),
            [list(text) for text in texts],
            [2 * count for count in states],  # in features of 10 ms
        )
        return [_edges(result, len(text)) for result, text in zip(results, texts, strict=True)]

    def language(self, memory: Memory) -> str:
        """Return the code of the language that a multilingual model detects."""
        [[(token, _), *_]] = self._model.detect_language(_joined([memory]))
        return str(token).strip("<|>")

    def _read(self, result: Any) -> Text:  # noqa: ANN401 -- ctranslate2 has no types
        written = result.sequences_ids[0]
        tokens = tuple(token for token in written if token < self._vocabulary.end)
        # The score is a mean over the written tokens; the end token was judged as well.
        mean_logprob = result.scores[0] * len(written) / (len(written) + 1)
        decoded = Decoded(self._vocabulary.text(tokens), len(tokens), mean_logprob, result.no_speech_prob)
        return Text(tokens, decoded)


def max_length(prompt_tokens: int, text_tokens: int) -> int:
    """Return the `max_length` that lets CTranslate2 write so many tokens.

    It writes at most half of `max_length`, and at most `max_length` less the prompt. Measured: 100 gives 50 tokens, 60
    behind a prompt of 33 gives 28.
    """
    return min(_LONGEST, max(2 * text_tokens, text_tokens + prompt_tokens))


def _joined(memories: Sequence[Memory]) -> Any:  # noqa: ANN401 -- ctranslate2 has no types
    import ctranslate2  # noqa: PLC0415 -- an extra

    return ctranslate2.StorageView.from_array(np.concatenate(memories) if len(memories) > 1 else memories[0])


def _edges(result: Any, tokens: int) -> Alignment:  # noqa: ANN401 -- ctranslate2 has no types
    """Read the path through the matrix of tokens and states: a token begins where the path enters its row."""
    path = np.array(result.alignments, np.int64).reshape(-1, 2)
    rows, states = path[:, 0], path[:, 1]
    entered = np.flatnonzero(np.diff(rows, prepend=-1))
    edges = np.zeros(tokens + 1)
    edges[: len(entered)] = states[entered][: tokens + 1] / STATES_PER_S
    if len(entered) <= tokens:  # the path has no row of the end token
        edges[len(entered) :] = states[-1] / STATES_PER_S if len(states) else 0.0
    return Alignment(edges, np.array(result.text_token_probs[:tokens], np.float64))
