"""The tokens around a text and in it: prompts, suppressed tokens, texts and words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from processor.recognisers.base import RecogniserError

MOST_PROMPT_TOKENS = 200
"""Tokens of terms and prompt before a text; Whisper's place for both is 224, half of its context."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text and the tokens that make it: from `first` up to but not including `end`."""

    text: str
    first: int
    end: int


class Vocabulary:
    """A model's tokens.

    Args:
        tokenizer: The model's tokenizer, of the package `tokenizers`.
        multilingual: Whether a prompt names the language.

    Raises:
        RecogniserError: The tokenizer lacks one of Whisper's own tokens.
    """

    def __init__(self, tokenizer: Any, *, multilingual: bool) -> None:  # noqa: ANN401 -- tokenizers has no types
        from faster_whisper.tokenizer import Tokenizer  # noqa: PLC0415 -- an extra; load_model reports if it is missing

        self._tokenizer = tokenizer
        self.end = self._require("<|endoftext|>")
        self._start = self._require("<|startoftranscript|>")
        self._start_of_previous = self._require("<|startofprev|>")
        self._no_timestamps = self._require("<|notimestamps|>")
        self._transcribe = self._require("<|transcribe|>") if multilingual else None
        self._multilingual = multilingual
        # All tokens from the end token on are markup; only the end itself may be written.
        self.suppressed = [-1, *Tokenizer(tokenizer, multilingual=False).non_speech_tokens, self._start]
        self._bytes = _bytes_of_characters()

    def start_sequence(self, language: str) -> list[int]:
        """Return the tokens that open every text in a language."""
        if not self._multilingual or self._transcribe is None:
            return [self._start]
        return [self._start, self._require(f"<|{language}|>"), self._transcribe]

    def prompt(self, language: str, before: Sequence[int] = ()) -> list[int]:
        """Return the decoder's prompt: tokens taken as said before, if any, and the opening."""
        previous = [self._start_of_previous, *before] if before else []
        return [*previous, *self.start_sequence(language), self._no_timestamps]

    def before(self, terms: Sequence[str], prompt: str) -> list[int]:
        """Return the tokens that the decoder takes as said before: as many terms as fit, then the prompt's end."""
        tokens: list[int] = []
        for term in terms:
            more = self._encoded(f"{term.strip()},")
            if len(tokens) + len(more) > MOST_PROMPT_TOKENS:
                break
            tokens += more
        room = MOST_PROMPT_TOKENS - len(tokens)
        return tokens + (self._encoded(prompt)[-room:] if prompt.strip() and room else [])

    def _encoded(self, text: str) -> list[int]:
        """Return the tokens of a text that continues another."""
        tokens: list[int] = self._tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids
        return tokens

    def words(self, tokens: Sequence[int]) -> list[Word]:
        """Return the words of a text: what lies between its spaces, mere punctuation joined to the word before it."""
        found: list[Word] = []
        for word in self._runs(tokens):
            if found and not any(character.isalnum() for character in word.text):
                found[-1] = Word(f"{found[-1].text} {word.text}", found[-1].first, word.end)
            else:
                found.append(word)
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens: its words, joined by single spaces."""
        return " ".join(run.text for run in self._runs(tokens))

    def _runs(self, tokens: Sequence[int]) -> Iterator[Word]:
        """Yield what lies between spaces."""
        text = bytearray()
        first = 0
        for index, token in enumerate(tokens):
            for character in self._tokenizer.id_to_token(token) or "":
                byte = self._bytes.get(character, 0x20)
                if byte not in b" \t\n\r":
                    first = first if text else index
                    text.append(byte)
                elif text:
                    yield Word(text.decode(errors="replace"), first, max(index, first + 1))
                    text.clear()
        if text:
            yield Word(text.decode(errors="replace"), first, len(tokens))

    def _require(self, token: str) -> int:
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            message = f"the model's vocabulary has no {token}"
            raise RecogniserError(message, retryable=False)
        return found


def _bytes_of_characters() -> dict[str, int]:
    """Return the byte that each character of a token stands for: GPT-2's table, in which all are printable."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}
